"""What a person sees."""

import io
from typing import Any

from rich.console import Console

from stillhouse.cli.terminal import Terminal

STEP: dict[str, Any] = {
    "kind": "step", "step": 30, "epoch": 1.5, "progress": 0.25, "loss": 4.0,
    "terms": {"final": 3.0, "intermediate": 1.0},
    "images_per_second": 123.4, "data_share": 0.02, "seconds": 100.0,
}  # fmt: skip
KNN = {"kind": "knn", "step": 30, "epoch": 1.5, "blocks": [0.31, 0.425]}
HEALTH = {"kind": "health", "step": 30, "sentence": "weak: different images give similar vectors"}


def printed(*records: dict[str, Any], terminal: bool = False, width: int = 200) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width)
    with Terminal(console) as listener:
        for record in records:
            listener.hear(record)
        listener.close()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_everything_worth_knowing_is_there() -> None:
    for terminal in (False, True):
        text = printed({"kind": "start", "about": ["simclr on vit_micro"]}, HEALTH, STEP, KNN, terminal=terminal)
        for part in (
            "simclr on vit_micro", "step 30", "epoch 1.50", "0:05:00 left", "123 images/s",
            "2% of the time waiting for data",
            "loss 4.0000", "final 3.0000", "intermediate 1.0000", "31.0 42.5", "weak: different images",
        ):  # fmt: skip
            assert part in text, (terminal, part)


def test_no_labels_no_accuracy() -> None:
    assert "k-NN" not in printed(HEALTH, STEP)


def test_a_narrow_terminal_and_the_end() -> None:
    assert "done in 0:01:40" in printed(STEP | {"progress": 1.0}, terminal=True, width=40)


def test_lines_do_not_flood_a_file() -> None:
    text = printed(*[STEP | {"step": step} for step in range(50)])
    assert len(text.splitlines()) == 1


def test_a_note_is_told_before_there_are_steps() -> None:
    for terminal in (False, True):
        assert "half of it" in printed({"kind": "note", "step": 0, "sentence": "half of it"}, terminal=terminal)
