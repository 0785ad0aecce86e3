"""What the terminal says of an evaluation."""

import pytest

from stillhouse.cli.tables import evaluation_table
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.judge import evaluate
from tests.evaluation.made_up import make_encoder, make_store


def test_fewer_and_wrong_labels_have_a_table_of_their_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    train, test = make_store([0, 1, 2] * 20, seed=1), make_store([0, 1, 2] * 10, seed=2)
    plain = {"k": 5, "alignment_images": 0}
    evaluation_table(evaluate(make_encoder(), train, test, config=EvaluationConfig(**plain)))  # type: ignore[arg-type]
    usual = capsys.readouterr().out
    hard = EvaluationConfig(k=5, alignment_images=0, few_labels=("10%",), label_noise=(0.25,))
    found = evaluate(make_encoder(), train, test, config=hard)
    evaluation_table(found)
    both = capsys.readouterr().out
    table = both[both.index(" subject") :].splitlines()
    assert both.startswith(usual.split("verdict:")[0])
    assert table[0].split() == ["subject", "block", "all", "labels", "10%", "labels", "noise", "0.25"]
    results = [found.of("encoder", "linear", told)[1] for told in ("", "10% labels", "noise 0.25")]
    assert table[2].split() == ["encoder", "2", *(f"{100 * result.accuracy:.2f}" for result in results)]
    assert table[3].split()[0] == "pixels"
    assert len(table[3].split()) == 4
