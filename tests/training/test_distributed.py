"""Two processes with half a batch each are one process with the whole."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from stillhouse.data.stream import Batch
from stillhouse.distributed import agree, gather, gather_detached, position, rank, world_size
from stillhouse.methods.method import Method
from stillhouse.methods.table import METHODS
from stillhouse.networks.synchronized import synchronize_norms
from tests.methods.conftest import build_method, random_batch
from tests.methods.test_contract import SUMS

Case = tuple[str, str]

TRANSFORMERS: list[Case] = [(name, "vit_nano") for name in ("sdssl-mocov3", "esvit")]
RESIDUAL: list[Case] = [
    (name, "timm:test_resnet")
    for name in (*METHODS, *SUMS)
    if name != "esvit"  # which needs several regions
]
"""A small network with batch normalization throughout."""
DISTINCT = ("simclr", "byol", "dino", "dogo", "seed", "crd")
"""Methods that between them have every part that looks across processes."""
FEW = [*TRANSFORMERS, *(case for case in RESIDUAL if case[0] in DISTINCT)]
WORLD = 2


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def in_two_processes(work: object, folder: Path) -> None:
    start_processes(_join, args=(work, folder, free_port()), nprocs=WORLD, start_method="spawn")


def _join(number: int, work: object, folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=number, world_size=WORLD)
    try:
        work(folder)  # type: ignore[operator]
    finally:
        dist.destroy_process_group()


def make(name: str, encoder: str) -> Method:
    return build_method(name, encoder).double()


def whole_batch(method: Method) -> Batch:
    batch = random_batch(images=8, views=method.views.num_views)
    return Batch(tuple(view.double() for view in batch.views), batch.index)


def gradients(model: nn.Module, method: Method, batch: Batch) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = model(batch, 0.4)
    torch.stack(list(terms.values())).sum().backward()
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


@dataclass(frozen=True)
class _SavesGradientsAndBuffers:
    cases: list[Case]

    def __call__(self, folder: Path) -> None:
        for name, encoder in self.cases:
            _save_gradients_and_buffers(name, encoder, folder)


def _save_gradients_and_buffers(name: str, encoder: str, folder: Path) -> None:
    half = slice(4 * rank(), 4 * rank() + 4)
    method = make(name, encoder)
    whole = whole_batch(method)
    mine = Batch(tuple(view[half] for view in whole.views), whole.index[half])
    synchronize_norms(method, "cpu")
    found = gradients(DistributedDataParallel(method), method, mine)
    buffers = {key: value for key, value in method.named_buffers() if "running" in key}
    torch.save({"gradients": found, "buffers": buffers}, folder / f"{name}-{encoder}-{rank()}.pt")


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(FEW, id="few"),
        pytest.param([case for case in RESIDUAL if case not in FEW], id="others", marks=pytest.mark.slow),
    ],
)
def test_gradients_equal_those_of_one_process_with_the_joined_batch(cases: list[Case], tmp_path: Path) -> None:
    in_two_processes(_SavesGradientsAndBuffers(cases), tmp_path)
    for name, encoder in cases:
        method = make(name, encoder)
        expected = gradients(method, method, whole_batch(method))
        buffers = dict(method.named_buffers())
        for number in range(WORLD):
            found = torch.load(tmp_path / f"{name}-{encoder}-{number}.pt")
            assert set(found["gradients"]) == set(expected)
            for key, gradient in expected.items():
                torch.testing.assert_close(found["gradients"][key], gradient, atol=1e-6, rtol=0, msg=f"{name} {key}")
            for key, value in found["buffers"].items():
                torch.testing.assert_close(value, buffers[key], atol=1e-6, rtol=0)


def _gather_rows(folder: Path) -> None:
    rows = torch.arange(3.0).add(3 * rank()).requires_grad_()
    everyone = gather(rows)
    assert everyone.tolist() == [0, 1, 2, 3, 4, 5]
    (everyone * torch.arange(6.0)).sum().backward()
    assert rows.grad is not None
    assert rows.grad.tolist() == [2.0 * (i + 3 * rank()) for i in range(3)]  # both processes send the same
    assert not gather_detached(rows).requires_grad
    assert agree(rank() == 1, False, True) == (True, False, True)
    assert position(rows) == 3 * rank()


def test_gathering(tmp_path: Path) -> None:
    in_two_processes(_gather_rows, tmp_path)


def test_one_process_gathers_itself() -> None:
    rows = torch.rand(3, requires_grad=True)
    assert gather(rows) is rows
    assert world_size() == 1
    assert rank() == 0
    assert agree(True, False) == (True, False)
    assert position(torch.rand(3)) == 0


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 4, 4)])
def test_a_global_norm_alone_is_the_local_norm(shape: tuple[int, ...]) -> None:
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    local, rows = kind(3).double(), torch.randn(shape, dtype=torch.float64)
    other = kind(3).double()
    other.load_state_dict(local.state_dict())
    shared = synchronize_norms(nn.Sequential(other), "cpu")
    for _ in range(2):
        torch.testing.assert_close(shared(rows), local(rows))
    torch.testing.assert_close(other.running_var, local.running_var)
    local.eval()
    shared.eval()
    torch.testing.assert_close(shared(rows), local(rows))
