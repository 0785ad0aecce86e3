"""Linear probes that are told fewer labels, or wrong ones."""

import pytest
import torch

from stillhouse.config import build
from stillhouse.data.labels import balanced_subset, with_wrong_labels
from stillhouse.errors import SettingsError
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.features import extract
from stillhouse.evaluation.judge import evaluate
from stillhouse.evaluation.lessons import lessons
from stillhouse.evaluation.linear import fit_probe
from tests.evaluation.made_up import ListedStore, make_encoder, make_store

HARD = EvaluationConfig(
    k=5, alignment_images=0, batch_size=64, few_labels=("20%", "9"), label_noise=(0.4,), pixels=False, seed=3
)


def stores(bad: tuple[int, ...] = ()) -> tuple[ListedStore, ListedStore]:
    return make_store([0, 1, 2] * 40, seed=1, bad=bad), make_store([0, 1, 2] * 20, seed=2)


def test_every_block_is_judged_by_every_lesson_and_the_names_say_it() -> None:
    found = evaluate(make_encoder(), *stores(), config=HARD)
    names = ["linear(lbfgs)", "linear(lbfgs, 20% labels)", "linear(lbfgs, 9 labels)", "linear(lbfgs, noise 0.4)"]
    told = ["", "20% labels", "9 labels", "noise 0.4"]
    for block in (1, 2):
        linear = [result for result in found.results if result.block == block][1:]
        assert [(result.protocol, result.labels) for result in linear] == list(zip(names, told, strict=True))
        assert [result.settings.get("images") for result in linear] == [None, 24, 9, 120]
    assert [result.labels for result in found.of("encoder", "linear")] == ["", ""]
    assert [result.block for result in found.of("encoder", "linear", "noise 0.4")] == [1, 2]
    best, best_of_few = found.best("linear"), found.best("linear", "9 labels")
    assert best is not None
    assert best_of_few is not None
    assert (best.labels, best_of_few.labels) == ("", "9 labels")
    assert '"labels": "20% labels"' in found.to_json()


@pytest.mark.parametrize("bad", [(), (0, 7, 100)])
def test_accuracy_is_that_of_a_probe_that_saw_nothing_else(bad: tuple[int, ...]) -> None:
    train, test = stores(bad)
    found = evaluate(make_encoder(), train, test, config=HARD)
    bank, queries = extract(make_encoder(), train), extract(make_encoder(), test)
    readable = torch.tensor([place not in bad for place in range(120)])
    few = torch.zeros(120, dtype=torch.bool)
    few[balanced_subset(train.labels, 24, seed=3)] = True
    wrong = with_wrong_labels(train.labels, 3, 0.4, seed=3)
    assert int((wrong != train.labels).sum()) == 48
    for name, shown, labels in (("20% labels", few, train.labels), ("noise 0.4", few | True, wrong)):
        rows = bank.blocks[1][shown[readable]]
        probe = fit_probe(rows, labels[shown & readable], 3, seed=3)
        result = found.of("encoder", "linear", name)[1]
        assert result.accuracy == (probe.classify(queries.blocks[1]) == queries.labels).double().mean().item()
        assert result.held_out == probe.held_out
        assert result.settings["l2"] == probe.value


def test_a_penalty_is_chosen_by_labels_as_wrong_as_the_others() -> None:
    train, test = make_store([0, 1, 2] * 200, seed=1), make_store([0, 1, 2] * 40, seed=2)
    config = EvaluationConfig(k=5, alignment_images=0, label_noise=(0.4,), untrained=False)
    found = evaluate(make_encoder(), train, test, config=config)
    (noisy,) = found.of("pixels", "linear", "noise 0.4")
    (clean,) = found.of("pixels", "linear")
    assert clean.held_out > 0.95
    assert noisy.held_out < 0.8  # no probe can agree with more than the share of true labels, but for luck
    assert noisy.accuracy > noisy.held_out  # the test has true ones


def test_all_see_the_same_and_the_first_sees_all() -> None:
    labels = torch.arange(60) % 3
    everything, share, count, noise = lessons(labels, 3, HARD)
    assert everything.shown.all()
    assert noise.shown.all()
    assert torch.equal(everything.labels, labels)
    assert (int(share.shown.sum()), int(count.shown.sum())) == (12, 9)
    assert not (count.shown & ~share.shown).any()  # nested
    assert torch.equal(share.labels, labels)


def test_too_few_labels_are_refused_before_an_image_is_read() -> None:
    train, test = stores()
    for text, said in (("1%", "1%: 1 of 120 labels for 3 classes"), ("121", "121: 121 of 120 labels")):
        with pytest.raises(SettingsError, match=rf"evaluation\.few_labels: {said}"):
            evaluate(make_encoder(), train, test, config=EvaluationConfig(few_labels=(text,)))
    assert train.passes == test.passes == 0


def test_without_linear_probes_there_are_none_of_these() -> None:
    config = EvaluationConfig(k=5, alignment_images=0, linear=False, few_labels=("1%",), pixels=False)
    assert all(
        result.protocol.startswith("knn") for result in evaluate(make_encoder(), *stores(), config=config).results
    )


def test_settings_are_checked_by_name() -> None:
    with pytest.raises(SettingsError) as told:
        build(EvaluationConfig, {"few_labels": ["1%", "ten"], "label_noise": [0.2, 1.0]}, "evaluation.")
    few, noise = str(told.value).splitlines()
    assert few.startswith(
        "evaluation.few_labels.1: value error, 'ten' is neither a count (250, 5 per class) nor a share"
    )
    assert noise.startswith("evaluation.label_noise.1: input should be less than 1")
    good = build(EvaluationConfig, {"few_labels": ["1%", "250"], "label_noise": [0.2]})
    assert (good.few_labels, good.label_noise) == (("1%", "250"), (0.2,))
