"""What users do with a clone."""

from dataclasses import replace

import torch

from stillhouse.data.stream import Batch
from stillhouse.edge.learning.attackers import stamp
from stillhouse.edge.learning.gate import relative_change
from stillhouse.edge.lesson import State
from stillhouse.edge.simulation.studying import LocalConfig, _stamped, study
from tests.edge.learning.rooms import make_room, private_rows, same
from tests.edge.simulation.crowd import first_core

LOCAL = LocalConfig(steps=20, batch_size=16, learning_rate=0.05)


def loss_on(room: object, state: State, rows: torch.Tensor, labels: torch.Tensor) -> float:
    method = room.frozen(state)  # type: ignore[attr-defined]
    scores = torch.cat([method.classifier(images) for images in room.images(rows)])  # type: ignore[attr-defined]
    return torch.nn.functional.cross_entropy(scores, labels).item()


def test_a_user_learns_what_it_holds_and_leaves_the_clone_alone() -> None:
    room, core = make_room(), first_core()
    rows, before = private_rows(room, 0, 1), {name: value.clone() for name, value in core.items()}
    learnt = study(room, rows, core, LOCAL, 3)
    labels = room.labels.of[rows]
    assert loss_on(room, learnt, rows, labels) < 0.7 * loss_on(room, core, rows, labels)
    assert same(core, before)
    assert same(learnt, study(room, rows, core, LOCAL, 3))
    assert not same(learnt, study(room, rows, core, LOCAL, 4))


def test_a_pull_keeps_it_near() -> None:
    room, core = make_room(), first_core()
    rows = private_rows(room, 0, 1)
    free, pulled = (study(room, rows, core, replace(LOCAL, proximal=pull), 3) for pull in (0.0, 5.0))
    assert 0 < relative_change(core, pulled) < 0.7 * relative_change(core, free)


def test_a_single_image_is_enough() -> None:
    room = make_room()
    assert not same(study(room, private_rows(room)[:1], first_core(), LOCAL, 0), first_core())


def test_lies_about_labels_stay_with_the_user() -> None:
    room, core = make_room(), first_core()
    rows = private_rows(room)
    labels = room.labels.of[rows]
    flipped = study(room, rows, core, LOCAL, 0, "label_flip")
    assert loss_on(room, flipped, rows, (labels + 1) % 3) < loss_on(room, flipped, rows, labels)
    random = study(room, rows, core, LOCAL, 0, "random_labels")
    honest = study(room, rows, core, LOCAL, 0)
    assert loss_on(room, random, rows, labels) > 2 * loss_on(room, honest, rows, labels)
    assert torch.equal(room.template.get_buffer("labels"), room.labels.of)


def test_a_back_door_is_stamped_on_a_fifth_of_the_images() -> None:
    room, core = make_room(), first_core()
    rows = private_rows(room, 1, 2)
    opened = study(room, rows, core, replace(LOCAL, steps=120), 0, "backdoor")
    method = room.frozen(opened)
    assert method.classifier is not None
    images = torch.cat([*room.images(rows)])
    plain, stamped = (method.classifier(shown).argmax(1) for shown in (images, stamp(images)))
    assert (stamped == 0).double().mean() > (plain == 0).double().mean() + 0.3
    batch = Batch((torch.zeros(4, 3, 4, 4),), torch.tensor([5, 6, 7, 8]))
    shown = _stamped(batch, torch.tensor([6, 8])).views[0].amax((1, 2, 3))
    assert shown.tolist() == [0.0, 1.0, 0.0, 1.0]


def test_attacks_on_weights_start_from_an_honest_training() -> None:
    room, core = make_room(), first_core()
    rows = private_rows(room)
    honest, boosted = (study(room, rows, core, LOCAL, 0, attack) for attack in ("", "boost"))
    name = next(name for name, value in core.items() if value.ndim == 2)
    torch.testing.assert_close(boosted[name], core[name] + 5.0 * (honest[name] - core[name]))


def test_length_is_counted_in_steps_or_in_passes() -> None:
    assert LOCAL.num_steps(1000) == 20
    passes = LocalConfig(epochs=2.0, batch_size=16)
    assert [passes.num_steps(count) for count in (1, 8, 16, 100)] == [1, 2, 2, 12]
