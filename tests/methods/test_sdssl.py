"""Oracles of SDSSL: values at known outputs, where gradients go, and the one-pass predictor."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stillhouse.data.stream import Batch
from stillhouse.errors import SettingsError
from stillhouse.losses.contrastive import cross_view_nce, info_nce, nt_xent
from stillhouse.losses.regression import cosine_distance
from stillhouse.methods.method import Method
from stillhouse.methods.sdssl import depth_terms
from stillhouse.methods.table import find_method
from stillhouse.networks.encoder import Encoder, Features
from tests.methods.conftest import MakeMethod, random_batch

TEACHED = ["sdssl-byol", "sdssl-mocov3"]
BASES = {"sdssl-simclr": "simclr", "sdssl-byol": "byol", "sdssl-mocov3": "mocov3"}


class Given(nn.Module):
    """A predictor that answers what it is told, whatever comes in."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, rows: Tensor) -> Tensor:
        return self.answer + 0 * rows


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def nce(target: Tensor) -> Any:
    return lambda prediction: 0.4 * info_nce(prediction, target, 0.2)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("depths", [4, 12])
def test_mocov3_form_of_orthonormal_rows(ratio: float, depths: int) -> None:
    target = torch.eye(4)
    terms = depth_terms([torch.zeros(4, 4)] * depths, [Given(target)] * depths, nce(target), ratio, 1.0)
    assert terms["final"].item() == pytest.approx(0.0080049, rel=1e-4)
    assert 2 * total(terms).item() == pytest.approx(2 * 0.0080049 * (1 + ratio + depths), rel=1e-4)


def test_mocov3_form_of_collapsed_rows() -> None:
    same = torch.ones(1024, 2)
    terms = depth_terms([same] * 3, [nn.Identity()] * 3, nce(same), 0.5, 1.0)
    assert terms["final"].item() == pytest.approx(2.77259, rel=1e-5)
    assert total(terms).item() == pytest.approx(2.77259 * (1 + 0.5 + 3), rel=1e-5)


@pytest.mark.parametrize(
    ("answer", "value"), [(torch.eye(4), 0.0), (torch.eye(4).roll(1, 0), 4.0), (-torch.eye(4), 8.0)]
)
def test_byol_form_of_equal_orthogonal_and_opposite_rows(answer: Tensor, value: float) -> None:
    def distance(prediction: Tensor) -> Tensor:
        return cosine_distance(prediction, torch.eye(4))

    terms = depth_terms([torch.zeros(4, 4)] * 12, [Given(answer)] * 12, distance, 0.6, 1.0)
    assert 2 * total(terms).item() == pytest.approx(value * (1 + 0.6 + 12), abs=1e-5)


def test_simclr_form_of_orthonormal_and_of_collapsed_rows() -> None:
    rows = torch.eye(4).repeat(2, 1)
    expected = torch.log(1 + 6 * torch.exp(torch.tensor(-5.0))).item()
    assert cross_view_nce(rows, rows, 0.2).item() == pytest.approx(expected, rel=1e-5)
    assert nt_xent(rows[:4], rows[4:], 0.2).item() == pytest.approx(expected, rel=1e-5)
    same = torch.ones(8, 4)
    assert cross_view_nce(same, same, 0.2).item() == pytest.approx(torch.tensor(7.0).log().item(), rel=1e-5)


def _two_passes(
    projections: list[Tensor], predictors: list[nn.Module], loss: Any, ratio: float, weight: float
) -> Tensor:
    """As published: attached projections, then detached ones."""
    depths = len(projections)
    attached = [loss(q(z)) for q, z in zip(predictors, projections, strict=True)]
    detached = [loss(q(z.detach())) for q, z in zip(predictors, projections, strict=True)]
    middle = ratio * torch.stack(attached[:-1]).mean()
    return torch.stack([attached[-1], middle, weight * depths * torch.stack(detached).mean()]).sum()


@pytest.mark.parametrize("ratio", [0.0, 0.37, 1.0])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_one_predictor_pass_equals_two_in_value_and_every_gradient(ratio: float, weight: float) -> None:
    torch.manual_seed(0)
    predictors: list[nn.Module] = [
        nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 6)).double() for _ in range(5)
    ]
    rows = [torch.randn(8, 6, dtype=torch.float64, requires_grad=True) for _ in range(5)]
    target = torch.randn(8, 6, dtype=torch.float64)
    learning = rows + [parameter for predictor in predictors for parameter in predictor.parameters()]
    one = total(depth_terms(rows, predictors, nce(target), ratio, weight))
    two = _two_passes(rows, predictors, nce(target), ratio, weight)
    torch.testing.assert_close(one, two, atol=1e-12, rtol=0)
    mine = torch.autograd.grad(one, learning)
    theirs = torch.autograd.grad(two, learning)
    for a, b in zip(mine, theirs, strict=True):
        assert (a - b).abs().max() < 1e-12


def test_share_of_a_predictors_gradient() -> None:
    """(1 + r / (L - 1)) of its own loss below the last depth, 2 at it."""
    torch.manual_seed(0)
    predictors = [nn.Linear(6, 6, bias=False).double() for _ in range(5)]
    rows = [torch.randn(8, 6, dtype=torch.float64) for _ in range(5)]
    loss = nce(torch.randn(8, 6, dtype=torch.float64))
    total(depth_terms(rows, predictors, loss, 0.7, 1.0)).backward()
    for depth, (predictor, row) in enumerate(zip(predictors, rows, strict=True)):
        alone = torch.autograd.grad(loss(predictor(row)), predictor.weight)[0]
        torch.testing.assert_close(predictor.weight.grad, alone * (2 if depth == 4 else 1 + 0.7 / 4))


def _with_gradient(method: Method, terms: dict[str, Tensor], name: str) -> set[str]:
    """Which parts of the method the term reaches."""
    method.zero_grad()
    terms[name].backward(retain_graph=True)
    reached = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    parts = {
        "encoder": "student.encoder.",
        "final projector": "student.projector.",
        "lower projectors": "lower.",
        "final predictor": "predictors.1.",
        "lower predictors": "predictors.0.",
        "teacher": "teacher.",
    }
    return {part for part, prefix in parts.items() if any(n.startswith(prefix) for n in reached)}


@pytest.mark.parametrize("name", TEACHED)
def test_where_gradients_go_with_a_teacher(name: str, make_method: MakeMethod) -> None:
    """One pass joins the predictor term to the others; with its weight at 0 only the attached share is left."""
    method = make_method(name, predictor_weight=0.0)
    terms = method(random_batch(), 0.5)
    assert _with_gradient(method, terms, "final") == {"encoder", "final projector", "final predictor"}
    assert _with_gradient(method, terms, "intermediate") == {"encoder", "lower projectors", "lower predictors"}


@pytest.mark.parametrize("name", TEACHED)
def test_the_predictor_term_alone_reaches_predictors_only(name: str, make_method: MakeMethod) -> None:
    """Total with the term minus total without it moves no encoder, no projector, and every predictor."""
    gradients = []
    for weight in (0.0, 1.0):
        method = make_method(name, predictor_weight=weight).double()
        batch = random_batch()
        total(method(Batch(tuple(v.double() for v in batch.views), batch.index), 0.5)).backward()
        gradients.append({n: p.grad for n, p in method.named_parameters() if p.grad is not None})
    for parameter, without in gradients[0].items():
        change = (gradients[1][parameter] - without).abs().max()
        assert (change > 1e-6) if parameter.startswith("predictors.") and without.ndim > 1 else True
        if not parameter.startswith("predictors."):
            assert change < 1e-12, parameter


def test_where_gradients_go_in_the_simclr_form(make_method: MakeMethod) -> None:
    method = make_method("sdssl-simclr")
    terms = method(random_batch(), 0.5)
    assert _with_gradient(method, terms, "final") == {"encoder", "final projector"}
    assert _with_gradient(method, terms, "intermediate") == {"encoder", "lower projectors"}


@pytest.mark.parametrize("name", list(BASES))
def test_without_ratio_and_predictor_term_it_is_its_base(name: str, make_method: MakeMethod) -> None:
    switches = {"ratio": 0.0} | ({} if name == "sdssl-simclr" else {"predictor_weight": 0.0})
    deep = make_method(name, **switches)
    base = make_method(BASES[name], projector_layers=3)
    names = {
        key: key.replace("predictor.", "predictors.1.", 1) if key.startswith("predictor.") else key
        for key in base.state_dict()
    }
    base.load_state_dict({key: deep.state_dict()[other] for key, other in names.items()})
    batch = random_batch()
    mine, plain = total(deep(batch, 0.4)), total(base(batch, 0.4))
    torch.testing.assert_close(mine, plain, atol=1e-6, rtol=0)
    mine.backward()
    plain.backward()
    gradients = dict(deep.named_parameters())
    for key, parameter in base.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[names[key]].grad, parameter.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", list(BASES))
def test_swapping_the_views_changes_nothing(name: str, make_method: MakeMethod) -> None:
    batch = random_batch()
    forth = total(make_method(name)(batch, 0.5))
    back = total(make_method(name)(Batch(batch.views[::-1], batch.index), 0.5))
    torch.testing.assert_close(forth, back, atol=1e-5, rtol=1e-5)


class OneDepth(Encoder):
    """An encoder that is one block deep."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.block_dims, self.image_size = 8, (8,), 16

    def features(self, images: Tensor) -> Features:
        raise AssertionError("never asked")


@pytest.mark.parametrize("name", list(BASES))
def test_one_depth_is_not_enough(name: str) -> None:
    entry = find_method(name)
    with pytest.raises(SettingsError, match="one depth"):
        entry.method(entry.config(), OneDepth())
