"""What a lesson does to the core: no-ops stay no-ops, controls equal plain training, nobody else is changed."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from stillhouse.edge.learning.classroom import Classroom, seeded
from stillhouse.edge.learning.comparing import ByAnchors, ByDirections, ByRelations, choose_comparison
from stillhouse.edge.learning.descent import descend, own_loss, recompute_norms
from stillhouse.edge.learning.distiller import Distiller, DistillingConfig
from stillhouse.edge.lesson import State
from stillhouse.errors import TrainingError
from stillhouse.losses.directions import unit
from stillhouse.methods.travel import learning_encoder, pack
from stillhouse.schedules import cosine
from stillhouse.training.optimizers import make_optimizer
from tests.edge.learning.rooms import arrival, make_room, private_rows, same, train

STILL: dict[str, Any] = {"norms": "still", "weight_decay": 0.0, "batch_size": 16, "epochs": 1.0}


def teach(room: Classroom, core: State, teacher: State, base: State | None = None, **settings: Any) -> State:
    config = DistillingConfig(**{"batch_size": 16, **settings})
    return Distiller(room, config)(core, [arrival(teacher, core if base is None else base)], 1)[0]


@pytest.fixture(scope="module")
def room() -> Classroom:
    return make_room()


@pytest.fixture(scope="module")
def core(room: Classroom) -> State:
    return train(room, pack(room.template), room.learnt, steps=20)


@pytest.fixture(scope="module")
def returned(room: Classroom, core: State) -> State:
    return train(room, core, private_rows(room))


@pytest.mark.parametrize("target", ["residual", "clone"])
@pytest.mark.parametrize("kind", ["classes", "simclr", "byol"])
def test_an_untouched_clone_changes_nothing(kind: str, target: str) -> None:
    room = make_room(kind)
    core = pack(room.template)
    taught = teach(room, core, core, target=target, attend=1.0, strengths="equal", **STILL)
    assert all(torch.allclose(value, core[name], atol=1e-6) for name, value in taught.items())


def test_only_retaining_changes_nothing(room: Classroom, core: State, returned: State) -> None:
    settings: dict[str, Any] = {"student": "core", "strengths": "equal", "decay": "constant", **STILL}
    config = DistillingConfig(attend=1.0, retain=1.0, **settings)
    idle = [arrival(returned, returned, staleness=1)]  # nothing was changed: residual teaching wants the core as it is
    taught = Distiller(room, config)(core, idle, 1)[0]
    assert all(torch.allclose(value, core[name], atol=1e-6) for name, value in taught.items())


def test_without_either_weight_a_lesson_is_plain_training(room: Classroom, core: State, returned: State) -> None:
    taught = teach(room, core, returned, student="core", strengths="equal", attend=0.0, norms="still", epochs=2.0)
    seed = room.seed_of(1)
    with seeded(seed, room.device):
        method = room.method(core)
        for part in method.modules():
            if isinstance(part, torch.nn.BatchNorm1d):
                part.eval()
        stream = room.stream(method, 16, seed)
        optimizer = make_optimizer("sgd", method, weight_decay=5e-4, momentum=0.9, decay_all=True)
        descend(method, stream.batches(0), own_loss(method), optimizer, cosine(0.02, 0.0), 2 * stream.steps_per_epoch)
    assert same(taught, pack(method))


def test_the_same_version_gives_the_same_core_and_another_one_another(
    room: Classroom, core: State, returned: State
) -> None:
    rule = Distiller(room, DistillingConfig(batch_size=16, epochs=1.0))
    torch.manual_seed(1)
    one = rule(core, [arrival(returned, core)], 5)[0]
    torch.manual_seed(2)
    assert same(one, rule(core, [arrival(returned, core)], 5)[0])
    assert not same(one, rule(core, [arrival(returned, core)], 6)[0])


def test_nobody_but_the_student_is_changed(room: Classroom, core: State, returned: State) -> None:
    before = [{name: value.clone() for name, value in state.items()} for state in (core, returned)]
    taught = teach(room, core, returned)
    assert same(core, before[0])
    assert same(returned, before[1])
    assert not same(taught, core)
    frozen = room.frozen(returned)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not any(part.training for part in frozen.modules())
    assert {value.data_ptr() for value in frozen.state_dict().values()}.isdisjoint(
        value.data_ptr() for value in room.method(returned).state_dict().values()
    )


@pytest.mark.parametrize("student", ["merged", "core", "snapshot", "clone", "scratch"])
def test_where_a_student_begins(room: Classroom, core: State, returned: State, student: str) -> None:
    base = train(room, core, room.learnt, steps=2)
    settings: dict[str, Any] = {"student": student, "norms": "still", "strengths": "equal"}
    config = DistillingConfig(epochs=0.0, batch_size=16, **settings)
    begun = Distiller(room, config)(core, [arrival(returned, base, staleness=3)], 1)[0]
    expected = {
        "merged": {name: value + 0.5 * (returned[name] - base[name]) for name, value in core.items()},
        "core": core, "snapshot": base, "clone": returned, "scratch": pack(room.build(room.seed_of(1))),
    }[student]  # fmt: skip
    for name, value in begun.items():
        if value.is_floating_point() and "running_var" not in name:
            torch.testing.assert_close(value, expected[name])


def test_a_returned_clone_that_knows_more_teaches(room: Classroom, core: State, returned: State) -> None:
    """Residual teaching from outputs alone brings the core nearer to what the clone says."""
    before, after = room.frozen(core), room.frozen(teach(room, core, returned, student="core", epochs=6.0, attend=1.0))
    wanted = room.scores(room.frozen(returned)).softmax(1)
    distance = [(room.scores(method).softmax(1) - wanted).square().sum().item() for method in (before, after)]
    assert distance[1] < 0.8 * distance[0]


def test_a_clone_from_the_core_s_own_images_does_no_harm(room: Classroom, core: State) -> None:
    taught = room.frozen(teach(room, core, train(room, core, room.learnt)))
    scores = [room.scores(method).argmax(1) for method in (room.frozen(core), taught)]
    right = [(answers == room.known).double().mean().item() for answers in scores]
    assert right[1] > right[0] - 0.1


@pytest.mark.parametrize("listen", ["where_better", "by_confidence"])
def test_listening_changes_what_is_learnt(room: Classroom, core: State, returned: State, listen: str) -> None:
    settings: dict[str, Any] = {"student": "core", "attend": 1.0, "epochs": 1.0}
    everywhere = teach(room, core, returned, listen="everywhere", **settings)
    assert not same(everywhere, teach(room, core, returned, listen=listen, **settings))


@pytest.mark.parametrize("compare", ["relations", "anchors", "directions"])
@pytest.mark.parametrize("kind", ["simclr", "byol"])
def test_vectors_draw_near_those_of_a_clone(kind: str, compare: str) -> None:
    room = make_room(kind)
    core = pack(room.template)
    returned = train(room, core, private_rows(room))
    settings: dict[str, Any] = {"student": "core", "target": "clone", "compare": compare, "decay": "constant"}
    config = DistillingConfig(attend=1.0, batch_size=16, epochs=10.0, **settings)
    taught = Distiller(room, config)(core, [arrival(returned, core)], 1)[0]
    comparison = choose_comparison(room, config, room.frozen(core))
    images = next(room.images(room.held_out))
    wanted, before, after = (comparison.read(room.frozen(state), images)[0] for state in (returned, core, taught))
    assert comparison.distance(after, wanted).mean() < 0.9 * comparison.distance(before, wanted).mean()


def test_what_is_read_of_vectors(room: Classroom, core: State) -> None:
    method, images = room.frozen(core), next(room.images(room.held_out))
    rows = learning_encoder(method)(images)
    turned = rows @ torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0))).Q
    relations, anchors = ByRelations(), ByAnchors(unit(rows[:5]))
    assert relations.read(method, images)[0].shape == (len(images), len(images) - 1)
    torch.testing.assert_close(anchors.read(method, images)[0], unit(rows) @ unit(rows[:5]).T)
    assert len(ByRelations(every_depth=True).read(method, images)) == 1
    one, other = unit(rows), unit(turned)
    torch.testing.assert_close(ByDirections().distance(one, other), 1 - (one * other).sum(1), rtol=1e-4, atol=1e-5)
    for comparison in (relations, anchors):
        seen = comparison.read(method, images)[0]
        torch.testing.assert_close(comparison.distance(seen, seen), torch.zeros(len(images)), rtol=0, atol=1e-6)


def test_several_clones_teach_at_once(room: Classroom, core: State, returned: State) -> None:
    other = train(room, core, private_rows(room, 0, 1))
    sent = [arrival(returned, core, 0, 4), arrival(other, core, 2, 2)]
    taught, done = Distiller(room, DistillingConfig(batch_size=16, epochs=1.0))(core, sent, 5)
    assert done["attend_weight"] == pytest.approx(0.5 * 2**-0.5)
    assert not same(taught, core)


def test_a_loss_that_is_not_finite_ends_the_lesson(room: Classroom, core: State) -> None:
    name = next(name for name, value in core.items() if value.ndim == 2)
    broken = {**core, name: core[name] * torch.nan}
    with pytest.raises(TrainingError, match="not finite"):
        teach(room, core, broken, student="core", strengths="equal", attend=1.0, target="clone")


def test_recomputed_norms_are_those_of_the_images_and_leave_no_trace(room: Classroom, core: State) -> None:
    method = room.method(core).eval()
    stream = replace(room.stream(method, 48, 0), batch_size=48)
    recompute_norms(method, stream.batches(0), 1)
    (norm,) = (part for part in method.modules() if isinstance(part, torch.nn.BatchNorm1d))
    with torch.no_grad():
        linear = next(part for part in method.modules() if isinstance(part, torch.nn.Linear))
        encoder = method.encoder
        rows = linear(encoder.normalize(next(room.images(room.learnt))).flatten(1))
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, rows.mean(0), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not norm.training
