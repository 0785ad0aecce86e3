"""The promises that every method keeps."""

import copy
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import stillhouse.methods
from stillhouse.data.stream import Batch
from stillhouse.data.views import View, ViewPlan
from stillhouse.errors import SettingsError
from stillhouse.methods.method import Method
from stillhouse.methods.table import METHODS, find_method
from stillhouse.networks.teacher import FrozenTeacher
from stillhouse.training.optimizers import decay_groups
from tests.methods.conftest import MakeMethod, build_method, random_batch

SUMS = ("simclr + seed", "sdssl-byol + simreg")
CASES = [
    (name, encoder)
    for name in (*METHODS, *SUMS)
    for encoder in ("vit_nano", "resnet10" if name == "esvit" else "timm:test_resnet")  # EsViT needs several regions
]
"""A small transformer, and a small residual network with batch normalization throughout."""
cases = pytest.mark.parametrize(("name", "encoder"), CASES)


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def views_of(method: Method) -> int:
    return method.views.num_views


def learn(method: Method, steps: int, optimizer: torch.optim.Optimizer | None = None, start: int = 0) -> list[float]:
    optimizer = optimizer or torch.optim.AdamW(decay_groups(method, 0.1), lr=1e-3)
    losses = []
    for step in range(start, start + steps):
        loss = total(method(random_batch(seed=step, views=views_of(method), like=method), step / 10))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(step / 10)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("encoder", ["vit_nano", "resnet10"])  # timm's begins with branches that are zero
@pytest.mark.parametrize("name", [*METHODS, *SUMS])
def test_terms_are_finite_scalars_and_reach_every_weight_that_learns(
    name: str, encoder: str, make_method: MakeMethod
) -> None:
    method = make_method(name, encoder)
    terms = method(random_batch(views=views_of(method)), 0.5)
    assert terms
    assert all(term.shape == () and term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    total(terms).backward()
    missed = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not missed


TAUGHT = [name for name in METHODS if {"teacher", "teachers"} & set(find_method(name).companions)]


@pytest.mark.parametrize(("name", "views"), [*((name, 0) for name in TAUGHT), ("seed", 4), ("simclr + seed", 0)])
def test_a_teachers_answers_that_come_with_the_batch_stand_for_the_teacher(
    name: str, views: int, make_method: MakeMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"views": ViewPlan(views=(View(count=views),))} if views else {}
    asking, told = make_method(name, **settings), make_method(name, **settings)
    batches = [random_batch(seed=seed, views=views_of(asking)) for seed in range(2)]
    teacher = next(module for module in told.modules() if isinstance(module, FrozenTeacher))
    answers = [tuple(map(teacher, batch.views)) for batch in batches]
    expected = []
    for batch in batches:
        expected.append(asking(batch, 0.5))
        asking.after_step(0.5)
    monkeypatch.setattr(FrozenTeacher, "forward", None)
    for batch, said, terms in zip(batches, answers, expected, strict=True):
        assert told(dataclasses.replace(batch, answers=said), 0.5) == terms
        told.after_step(0.5)


@cases
def test_a_small_step_downhill_lowers_the_loss(name: str, encoder: str, make_method: MakeMethod) -> None:
    method = make_method(name, encoder)
    batch = random_batch(views=views_of(method))
    before = total(method(batch, 0.5))
    before.backward()
    slope = torch.stack([p.grad.square().sum() for p in method.parameters() if p.grad is not None]).sum()
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-3 / slope.sqrt() * parameter.grad)
    assert total(method(batch, 0.5)) < before


@cases
def test_save_load_and_continue_is_as_if_never_stopped(name: str, encoder: str, make_method: MakeMethod) -> None:
    whole = make_method(name, encoder)
    straight = learn(whole, 5)
    first = make_method(name, encoder)
    optimizer = torch.optim.AdamW(decay_groups(first, 0.1), lr=1e-3)
    losses = learn(first, 2, optimizer)
    second = make_method(name, encoder, seed=9)
    continued = torch.optim.AdamW(decay_groups(second, 0.1), lr=1e-3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert losses + learn(second, 3, continued, start=2) == straight
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), second.state_dict().values(), strict=True)
    )


@cases
def test_the_kept_encoder_is_part_of_the_method_and_grows_no_gradient_it_should_not(
    name: str, encoder: str, make_method: MakeMethod
) -> None:
    method = make_method(name, encoder)
    inside = {id(parameter) for parameter in method.parameters()}
    assert {id(parameter) for parameter in method.encoder.parameters()} <= inside
    total(method(random_batch(views=views_of(method)), 0.5)).backward()
    frozen = [p for n, p in method.named_parameters() if "teacher." in n]
    assert frozen or "byol" not in name
    assert all(p.grad is None and not p.requires_grad for p in frozen)


@cases
def test_frozen_parts_stay_bit_identical_and_out_of_the_optimizer(
    name: str, encoder: str, make_method: MakeMethod
) -> None:
    method = make_method(name, encoder)
    frozen = {n: p.clone() for n, p in method.named_parameters() if "patch_projection" in n}
    groups = decay_groups(method, 0.1)
    optimized = [id(p) for group in groups for p in group["params"]]
    learning = [id(p) for p in method.parameters() if p.requires_grad]
    assert sorted(optimized) == sorted(learning)
    assert len(set(optimized)) == len(optimized)
    assert all((p.ndim > 1) == (group["weight_decay"] > 0) for group in groups for p in group["params"])
    learn(method, 3)
    for n, before in frozen.items():
        assert torch.equal(dict(method.named_parameters())[n], before)


@pytest.mark.parametrize("name", METHODS)
def test_labels_reach_only_methods_made_with_them_and_every_setting_is_read(name: str) -> None:
    folder = Path(stillhouse.methods.__file__).parent
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    entry = find_method(name)
    if "labels" not in entry.companions:
        written = inspect.getsource(inspect.getmodule(entry.method))  # type: ignore[arg-type]
        assert "label" not in written.replace("unlabelled", "")
    for field in dataclasses.fields(find_method(name).config):
        assert f"config.{field.name}" in source, f"{name}: setting {field.name} is never read"


@pytest.mark.parametrize("name", METHODS)
def test_what_follows_from_the_encoder_is_written_out_once(name: str, make_method: MakeMethod) -> None:
    method = make_method(name)
    config: Any = method.config
    assert config.fit(method.encoder) == config
    assert method.views.views


@pytest.mark.parametrize("name", METHODS)
def test_a_number_of_views_that_a_method_cannot_use_is_told(name: str, make_method: MakeMethod) -> None:
    for count in (1, 2, 3, 5):
        try:
            method = make_method(name, views=ViewPlan(views=(View(count=count),)))
        except SettingsError as error:
            assert str(error).startswith("method.views: ")  # noqa: PT017 (either is right, and both are checked)
            continue
        terms = method(random_batch(views=count), 0.5)
        assert all(term.isfinite() for term in terms.values())


@pytest.mark.parametrize("name", [*(name for name, entry in METHODS.items() if entry.separable), "simclr"])
def test_a_separable_loss_of_a_batch_is_the_mean_over_its_halves(name: str) -> None:
    method = build_method(name).double().eval()
    views = random_batch(views=method.views.num_views, like=method).views
    rows = torch.tensor([0, 1, 2, 4, 5, 6, 8, 9])  # with labels
    halves = [slice(0, 4), slice(4, 8)]
    with torch.no_grad():
        whole, *parts = (
            float(torch.stack(list(method(Batch(tuple(v[at] for v in views), rows[at]), 0.5).values())).sum())
            for at in (slice(0, 8), *halves)
        )
    assert (whole == pytest.approx(sum(parts) / 2, rel=1e-12)) == METHODS[name].separable
