"""Random numbers that are looked up instead of drawn.

Every number is a hash of (seed, epoch, index of the image, slot), so an image gets the same numbers whatever batch,
process or machine asks for them, and a resumed run needs no generator state.
"""

import torch
from torch import Tensor

_WORD = 1 << 64
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: neighbouring counters land far apart
_FIRST_FACTOR = 0xBF58476D1CE4E5B9
_SECOND_FACTOR = 0x94D049BB133111EB
_NUMBERS = 1
_ORDER = 2


def uniform(seed: int, epoch: int, index: Tensor, slots: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), one for each image and slot.

    Args:
        seed: seed of the run; any integer.
        epoch: epoch, from 0.
        index: `[B]` int64, position of each image in the data set.
        slots: `[K]` int64, which of an image's numbers are wanted; numbers of different slots are independent.

    Returns:
        `[B, K]` float64, multiples of 2^-53, on the device of `index`.

    Source: the finalizer of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
    """
    words = _hash(
        _hash(index, _key(_NUMBERS, seed, epoch)).unsqueeze(-1) + slots.to(index.device) * _signed(_GOLDEN), 0
    )
    return _shifted(words, 11).double().mul_(2.0**-53)


def permutation(seed: int, epoch: int, size: int) -> Tensor:
    """A random order of `size` images: `[size]` int64 on the CPU, the same wherever it is computed."""
    return torch.argsort(_hash(torch.arange(size), _key(_ORDER, seed, epoch)), stable=True)


def _hash(counter: Tensor, key: int) -> Tensor:
    """Scramble int64 words: a bijection for every key, in which each output bit depends on all input bits."""
    words = counter * _signed(_GOLDEN) + _signed(key) if key else counter.clone()
    words = words.bitwise_xor_(_shifted(words, 30)).mul_(_signed(_FIRST_FACTOR))
    words = words.bitwise_xor_(_shifted(words, 27)).mul_(_signed(_SECOND_FACTOR))
    return words.bitwise_xor_(_shifted(words, 31))


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; int64 alone would fill with the sign."""
    return (words >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _key(*parts: int) -> int:
    """Fold integers into one 64-bit key, with the arithmetic of `_hash`."""
    key = 0
    for part in parts:
        key = (key + (part + 1) * _GOLDEN) % _WORD
        key = ((key ^ (key >> 30)) * _FIRST_FACTOR) % _WORD
        key = ((key ^ (key >> 27)) * _SECOND_FACTOR) % _WORD
        key ^= key >> 31
    return key


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned 64-bit word."""
    return word - _WORD if word >= _WORD // 2 else word
