"""Losses that compare a student's feature maps with its teacher's.

Letters: B images, C channels, H x W places. All run in at least float32; no gradient flows into the teacher's side.
Sources are the papers named, in the reductions of Tian et al. 2020 (CRD), whose weights stand in docs/losses.md.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference, mean over all elements; FitNet's loss.

    Args:
        student: features brought to the teacher's shape by a layer that learns.
        teacher: features.

    Source: Romero et al. 2015 (FitNets), equation 3.
    """
    own, wanted = _pair(student, teacher)
    return F.mse_loss(own, wanted)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the normalized maps of where activity is; mean over images and places.

    Does not see the scale, the number or the order of channels. The larger map is averaged down to the smaller.

    Args:
        student: `[B, C_s, H_s, W_s]`.
        teacher: `[B, C_t, H_t, W_t]`.

    Source: Zagoruyko and Komodakis 2017 (AT), equation 2, with p = 2.
    """
    own, wanted = map(_attention, _same_places(*_pair(student, teacher)))
    return (own - wanted).square().mean()


def neuron_selectivity(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of the channels' maps under the kernel `(x . y) ** 2`; mean over images.

    Every channel is one sample, normalized over places; 0 when both have the same channels in any order. The larger map
    is averaged down to the smaller.

    Args:
        student: `[B, C_s, H_s, W_s]`.
        teacher: `[B, C_t, H_t, W_t]`.

    Source: Huang and Wang 2017 (NST), equation 4, polynomial kernel of degree 2.
    """
    own, wanted = (F.normalize(m.flatten(2), dim=2) for m in _same_places(*_pair(student, teacher)))
    return _kernel(wanted, wanted) + _kernel(own, own) - 2.0 * _kernel(own, wanted)


def _pair(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(student.dtype, torch.float32)
    return student.to(dtype), teacher.detach().to(dtype)


def _same_places(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    height, width = (min(student.shape[axis], teacher.shape[axis]) for axis in (2, 3))
    return F.adaptive_avg_pool2d(student, (height, width)), F.adaptive_avg_pool2d(teacher, (height, width))


def _attention(maps: Tensor) -> Tensor:
    return F.normalize(maps.square().mean(1).flatten(1), dim=1)


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    return (one @ other.mT).square().mean()
