"""What travels is enough to go on, and holds nothing that only remembers."""

import pytest
import torch

from stillhouse.errors import RunError
from stillhouse.methods.table import METHODS
from stillhouse.methods.travel import STAYING, pack, travelling_names, unpack
from tests.methods.conftest import build_method


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_unpacks_what_another_packed_has_its_weights(name: str) -> None:
    torch.manual_seed(1)
    sender = build_method(name, "vit_nano")
    with torch.no_grad():
        for parameter in sender.parameters():
            parameter.add_(0.01)
    state = pack(sender)
    torch.manual_seed(2)
    receiver = build_method(name, "vit_nano")
    unpack(receiver, state)
    assert all(torch.equal(value, receiver.state_dict()[key]) for key, value in state.items())
    learning = {key for key, value in sender.named_parameters() if value.requires_grad}
    assert learning <= set(travelling_names(sender))


@pytest.mark.parametrize("name", ["byol", "mocov3", "sdssl-mocov3", "dino"])
def test_a_moving_average_arrives_as_its_student(name: str) -> None:
    method = build_method(name, "vit_nano")
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter))
    unpack(method, pack(method))
    student = dict(method.student.named_parameters())  # type: ignore[union-attr]
    teacher = dict(method.teacher.module.named_parameters())  # type: ignore[union-attr]
    assert all(torch.equal(student[key], value) for key, value in teacher.items())


def test_queues_stay_at_home() -> None:
    method = build_method("seed", "vit_nano")
    assert any(isinstance(module, STAYING) for module in method.modules())
    assert not [name for name in pack(method) if "queue" in name]


def test_a_pack_shares_no_memory_with_its_method() -> None:
    method = build_method("simclr", "vit_nano")
    state = pack(method)
    before = {key: value.clone() for key, value in state.items()}
    with torch.no_grad():
        for value in method.state_dict().values():
            value.add_(1)
    assert all(torch.equal(value, before[key]) for key, value in state.items())


def test_foreign_weights_are_refused() -> None:
    method = build_method("simclr", "vit_nano")
    state = dict(pack(method))
    name = next(iter(state))
    with pytest.raises(RunError, match="unknown"):
        unpack(method, state | {"extra": torch.zeros(1)})
    with pytest.raises(RunError, match="do not fit"):
        unpack(method, state | {name: torch.zeros(3, 3, 3)})
    del state[name]
    with pytest.raises(RunError, match="missing"):
        unpack(method, state)
