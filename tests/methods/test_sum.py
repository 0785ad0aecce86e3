"""Several methods over one encoder."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from stillhouse.data.labels import Labels
from stillhouse.data.stream import Batch
from stillhouse.data.views import View, ViewPlan
from stillhouse.errors import SettingsError
from stillhouse.methods.choice import Choice, check_choice
from stillhouse.methods.method import Method
from stillhouse.methods.sum import Sum
from stillhouse.networks.build import EncoderConfig, build_encoder
from tests.methods.conftest import MakeMethod, companions, random_batch
from tests.methods.test_contract import SUMS, total


def member(sum_: Method, name: str) -> Any:
    assert isinstance(sum_, Sum)
    return sum_.members[name]


def own_batch(sum_: Method, number: int, batch: Batch) -> Batch:
    assert isinstance(sum_, Sum)
    return Batch(tuple(batch.views[place] for place in sum_.places[number]), batch.index)


def learnt(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", SUMS)
def test_terms_and_gradients_are_the_weighted_ones_of_the_members_alone(name: str, make_method: MakeMethod) -> None:
    together = make_method(name).double()
    plain = random_batch(views=together.views.num_views)
    batch = Batch(tuple(view.double() for view in plain.views), plain.index)
    first, second = name.split(" + ")
    apart = [member(copy.deepcopy(together), first), member(copy.deepcopy(together), second)]
    terms = together(batch, 0.5)
    total(terms).backward()
    expected: dict[str, torch.Tensor] = {}
    for number, (key, weight) in enumerate(((first, 1.0), (second, 0.5))):
        found = apart[number](own_batch(together, number, batch), 0.5)
        expected |= {f"{key}/{term}": weight * value for term, value in found.items()}
        (weight * total(found)).backward()
    assert {key: value.item() for key, value in terms.items()} == {key: value.item() for key, value in expected.items()}
    encoders = [learnt(each.student.encoder) for each in apart]
    for key, gradient in learnt(member(together, first).student.encoder).items():
        torch.testing.assert_close(gradient, encoders[0][key] + encoders[1][key])


def test_one_encoder_and_the_first_methods_is_kept(make_method: MakeMethod) -> None:
    together = make_method("sdssl-byol + simreg")
    byol, simreg = member(together, "sdssl-byol"), member(together, "simreg")
    assert byol.student.encoder is simreg.student.encoder
    assert together.encoder is byol.teacher.module.encoder
    assert together.peer is None
    other = make_method("simreg + sdssl-byol")
    assert other.encoder is member(other, "sdssl-byol").student.encoder


def test_views_that_are_alike_are_drawn_once(make_method: MakeMethod) -> None:
    assert make_method("byol + mocov3").views == make_method("byol").views
    assert make_method("simreg + compress").views.num_views == 1
    assert make_method("simclr + seed").views.num_views == 3
    same = make_method("simclr + seed", views=ViewPlan(views=(View(count=2),)))
    assert same.views.num_views == 2


def test_every_member_is_told_of_a_step(make_method: MakeMethod) -> None:
    together = make_method("byol + seed")
    batch = random_batch(views=together.views.num_views)
    before = copy.deepcopy(member(together, "byol").teacher.state_dict())
    total(together(batch, 0.5)).backward()
    torch.optim.SGD(together.parameters(), lr=0.1).step()
    together.after_step(0.5)
    after = member(together, "byol").teacher.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert member(together, "seed").queues[0].position == 8


def test_a_teacher_is_shared_and_a_peer_is_kept(make_method: MakeMethod) -> None:
    together = make_method("simreg + dogo + seed")
    assert member(together, "simreg").teacher is member(together, "seed").teacher
    assert together.peer is member(together, "dogo").peer
    assert read("simreg", "dogo", "seed").companions == {"teacher", "peer"}
    assert read("simclr", "dogo").companions == {"peer"}
    assert read("simclr", "byol").companions == set()


def test_a_sum_in_python_refuses_what_makes_none(make_method: MakeMethod) -> None:
    one, other = make_method("simclr"), make_method("byol")
    with pytest.raises(SettingsError, match="1 methods; give two or more"):
        Sum({"simclr": one})
    with pytest.raises(SettingsError, match="no weight in common"):
        Sum({"simclr": one, "byol": other})
    good = member(make_method("simclr + byol"), "byol")
    for weights in ([1.0], [1.0, 0.0], [1.0, float("inf")]):
        with pytest.raises(SettingsError, match=r"weights .* for 2 methods; give each one above 0"):
            Sum({"byol": good, "again": good}, weights)


def read(*methods: str, **settings: Any) -> Choice:
    choice, problems = check_choice({"name": "sum", "methods": list(methods), **settings})
    assert not problems
    assert choice is not None
    return choice


def test_a_group_is_read_and_written_back() -> None:
    choice = read("simclr", "seed", seed={"queue_size": 40}, weights=[1, 0.5])
    assert choice.title == "simclr + seed"
    assert [(part.name, part.weight) for part in choice.parts] == [("simclr", 1.0), ("seed", 0.5)]
    assert choice.parts[1].config.queue_size == 40
    table = choice.to_table()
    assert (table["methods"], table["weights"], table["seed"]["queue_size"]) == (["simclr", "seed"], [1.0, 0.5], 40)
    assert check_choice(table) == (choice, [])
    assert read("simclr", "seed").to_table()["weights"] == [1.0, 1.0]
    single, _ = check_choice({"name": "seed", "queue_size": 40})
    assert single is not None
    assert single.to_table()["queue_size"] == 40
    assert check_choice(single.to_table()) == (single, [])


WRONG = [
    ({"methods": ["simclr"]}, ["method.methods: 1 named, and a sum has two or more"]),
    ({}, ["method.methods: 0 named"]),
    ({"methods": ["simclr", "sead"]}, ["method.methods: 'sead' is unknown; did you mean seed?"]),
    ({"methods": ["simclr", "seed", "simclr"]}, ["method.methods: simclr is named 2 times"]),
    ({"methods": ["simclr", "sum"]}, ["method.methods: a sum inside a sum"]),
    ({"methods": ["simclr", "seed"], "weights": [1.0]}, ["method.weights: 1 for 2 methods"]),
    ({"methods": ["simclr", "seed"], "weights": [1.0, 0.0]}, ["method.weights.1: input should be greater than 0"]),
    ({"methods": "simclr"}, ["method.methods: input should be a valid tuple"]),
    ({"methods": ["simclr", "seed"], "seed": 3}, ["method.seed: 3 is a single value; write a group of settings"]),
    ({"methods": ["simclr", "seed"], "byol": {}}, ["method.byol: byol is none of method.methods"]),
    ({"methods": ["simclr", "seed"], "weight": 1}, ["method.weight: no such setting; did you mean method.weights?"]),
    (
        {"methods": ["simclr", "seed"], "queue_size": 40},
        ["method.queue_size: no such setting; did you mean method.seed.queue_size? (known: methods, weights, simclr"],
    ),
    (
        {"methods": ["simclr", "seed"], "weights": [-1, 1], "seed": {"queue_sise": 1}, "simclr": {"temperature": 0}},
        ["method.weights.0: ", "method.simclr.temperature: ", "method.seed.queue_sise: no such setting"],
    ),
]


@pytest.mark.parametrize(("table", "told"), WRONG)
def test_mistakes_are_told_all_at_once_by_dotted_name(table: dict[str, Any], told: list[str]) -> None:
    choice, problems = check_choice({"name": "sum", **table})
    assert choice is None
    assert len(problems) == len(told)
    for problem, beginning in zip(problems, told, strict=True):
        assert problem.startswith(beginning)


def test_a_group_that_is_no_group_and_a_name_that_is_none() -> None:
    assert check_choice("seed") == (None, ["method: 'seed' is a single value; write a group of settings"])
    (problem,) = check_choice({"name": "summ"})[1]
    assert "did you mean sum?" in problem


def test_what_follows_from_encoder_and_images_is_written_out_in_every_member() -> None:
    encoder = build_encoder(EncoderConfig(name="vit_nano", image_size=16, patch_size=4))
    fitted = read("crd", "seed").fit(encoder, 50)
    assert (fitted.parts[0].config.num_images, fitted.parts[1].config.hidden_dim) == (50, encoder.dim)
    assert fitted.fit(encoder, 50) == fitted
    assert fitted.build(encoder, companions(encoder.dim)).state_dict()[
        "members.crd.partners.searches.0.student_bank.rows"
    ].shape == (
        50,
        128,
    )
    with pytest.raises(SettingsError, match=r"^method\.crd\.num_images: 50, but there are 60 images; leave it out"):
        fitted.fit(encoder, 60)
    three = {"views": {"views": [{"count": 3}]}}
    with pytest.raises(SettingsError, match=r"^method\.simclr\.views: 3 views of each image"):
        read("simclr", "seed", simclr=three).fit(encoder, 50)
    single, _ = check_choice({"name": "simclr", **three})
    assert single is not None
    with pytest.raises(SettingsError, match=r"^method\.views: 3 views of each image"):
        single.fit(encoder, 50)


@pytest.mark.parametrize(("name", "stands"), [("simclr + crd-supervised", True), ("byol + crd-supervised", False)])
def test_a_classifier_is_kept_only_on_the_encoder_that_is_kept(
    name: str, stands: bool, make_method: MakeMethod
) -> None:
    together = make_method(name)
    assert (together.classifier is not None) == stands
    assert together.classifier is None or together.classifier.encoder is together.encoder


def test_advice_in_a_sum_names_settings_as_the_recipe_does(make_method: MakeMethod) -> None:
    encoder = build_encoder(EncoderConfig(name="vit_nano", image_size=16, patch_size=4))
    beside = companions(encoder.dim) | {"labels": Labels(torch.full((64,), -1), ())}
    settings = {"label_weight": 0.5}
    choice = read("simclr", "simclrv2-distill", **{"simclrv2-distill": settings}).fit(encoder, 64)
    told = r"^method\.simclrv2-distill\.label_weight: .* or set method\.simclrv2-distill\.label_weight=0"
    with pytest.raises(SettingsError, match=told):
        choice.build(encoder, beside)
