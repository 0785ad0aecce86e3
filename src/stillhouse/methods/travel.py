"""What of a method travels between a core and its clones: all that learns, and nothing that only remembers.

A moving average is its student again where it arrives, and queues and banks, which hold what images look like, fill
anew, so neither is sent.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from stillhouse.errors import RunError
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.memory import MemoryBank
from stillhouse.networks.queue import Queue
from stillhouse.networks.teacher import MomentumTeacher

Weights = Mapping[str, Tensor]
"""Weights and statistics by name, on the CPU."""
STAYING = (MomentumTeacher, Queue, MemoryBank)


def pack(method: Method) -> Weights:
    """Copies of what travels, contiguous, on the CPU, by name."""
    return {
        name: method.state_dict()[name].detach().to("cpu", copy=True).contiguous() for name in travelling_names(method)
    }


def unpack(method: Method, state: Weights) -> None:
    """Give a method what travelled; every moving average becomes its student.

    Raises:
        RunError: names or shapes are not those of this method; it may then be half changed.
    """
    wanted = set(travelling_names(method))
    if wanted != set(state):
        odd = sorted(wanted ^ set(state))[0]
        raise RunError(
            f"{odd}: {'missing from' if odd in wanted else 'unknown in'} the weights; send those of the core"
        )
    try:
        method.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise RunError(f"the weights do not fit the network ({error}); send those of the core") from error
    with torch.no_grad():
        for teacher in staying_modules(method):
            if isinstance(teacher, MomentumTeacher):
                teacher.module.load_state_dict(student_of(method, teacher).state_dict())


def travelling_names(method: Method) -> list[str]:
    """Names of what travels, in the order of the method's `state_dict`."""
    stays = tuple(f"{name}." for name, module in method.named_modules() if isinstance(module, STAYING))
    return [name for name in method.state_dict() if not name.startswith(stays)]


def staying_modules(method: Method) -> Iterator[nn.Module]:
    """Modules that do not travel."""
    return (module for module in method.modules() if isinstance(module, STAYING))


def student_of(method: Method, teacher: MomentumTeacher[nn.Module]) -> nn.Module:
    """The module that a moving average was copied from: the one beside it with the same weights by name."""
    inside = {id(module) for held in staying_modules(method) for module in held.modules()}
    wanted = {name: value.shape for name, value in teacher.module.state_dict().items()}
    for module in method.modules():
        if id(module) not in inside and {name: value.shape for name, value in module.state_dict().items()} == wanted:
            return module
    raise AssertionError("a moving average without a student")


def learning_encoder(method: Method) -> Encoder:
    """The encoder that learns by gradient: the one that is kept, or the one that it is a moving average of."""
    kept = method.encoder
    for teacher in staying_modules(method):
        places = [name for name, module in teacher.named_modules() if module is kept]
        if isinstance(teacher, MomentumTeacher) and places:
            found = student_of(method, teacher).get_submodule(places[0].removeprefix("module").removeprefix("."))
            assert isinstance(found, Encoder)
            return found
    return kept
