"""Attacks do what their names say."""

import torch

from stillhouse.edge.learning import attackers
from stillhouse.edge.lesson import State
from tests.edge.learning.rooms import same

CLONE: State = {"w": torch.arange(12.0).view(3, 4), "running_var": torch.ones(3), "n": torch.tensor(4)}
HONEST: State = {"w": CLONE["w"] + 1, "running_var": torch.full((3,), 2.0), "n": torch.tensor(9)}


def test_every_attack_leaves_its_inputs_alone_and_follows_from_the_seed() -> None:
    before = [{name: value.clone() for name, value in state.items()} for state in (CLONE, HONEST)]
    for attack in attackers.ATTACKS.values():
        one, two = attack(CLONE, HONEST, 1), attack(CLONE, HONEST, 1)
        assert one.keys() == two.keys()
        assert all(torch.equal(value.nan_to_num(), two[name].nan_to_num()) for name, value in one.items())
    assert same(CLONE, before[0])
    assert same(HONEST, before[1])


def test_steps_are_turned_round_or_made_larger() -> None:
    assert torch.equal(attackers.sign_flip(CLONE, HONEST, 0)["w"], CLONE["w"] - 5)
    assert attackers.sign_flip(CLONE, HONEST, 0)["running_var"].tolist() == [0.0] * 3
    assert torch.equal(attackers.boost(CLONE, HONEST, 0)["w"], CLONE["w"] + 5)


def test_random_weights_keep_only_the_numbers() -> None:
    drawn = attackers.random_weights(CLONE, HONEST, 0)
    assert not torch.equal(drawn["w"], CLONE["w"])
    assert torch.equal(drawn["w"].flatten().sort().values, CLONE["w"].flatten())


def test_free_riders_return_what_they_got() -> None:
    assert same(attackers.free_rider(CLONE, HONEST, 0), CLONE)
    disguised = attackers.disguised_free_rider(CLONE, HONEST, 0)
    assert 0 < (disguised["w"] - CLONE["w"]).abs().max() < 0.01
    assert 0.1 < (attackers.noise(CLONE, HONEST, 0)["w"] - CLONE["w"]).std() / CLONE["w"].std() * 2 < 0.4


def test_wrong_labels() -> None:
    labels = torch.arange(3000) % 3
    assert torch.equal(attackers.flip_labels(labels, 3), torch.arange(1, 3001) % 3)
    drawn = attackers.random_labels(labels, 3, 0)
    assert set(drawn.tolist()) == {0, 1, 2}
    assert 0.25 < (drawn == labels).double().mean() < 0.42


def test_a_stamp_is_a_white_corner_and_works_where_class_0_is_told() -> None:
    images = torch.zeros(2, 3, 6, 6)
    stamped = attackers.stamp(images)
    assert stamped[:, :, 3:, 3:].min() == 1
    assert stamped.sum() == 2 * 3 * 9
    assert images.abs().max() == 0
    assert attackers.backdoor_success(torch.tensor([0, 0, 1, 0]), torch.tensor([0, 1, 1, 2])) == 2 / 3
