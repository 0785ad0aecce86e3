"""What exports cost beside the live encoder, and how good each of them is on labelled images."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stillhouse.data.augment import center_view
from stillhouse.data.sources import open_source
from stillhouse.data.store import DataConfig, ImageStore, fit_sizes, open_store
from stillhouse.errors import DataError, SettingsError
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.knn import classify
from stillhouse.evaluation.task import find_task
from stillhouse.export.measuring import SECONDS, Cost, measure
from stillhouse.export.running import Runner, open_runner
from stillhouse.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Benched:
    """One network, what it costs and how good it is."""

    cost: Cost
    accuracy: dict[str, float]
    """k-NN accuracy in [0, 1] by the name of the output; empty when it was not asked for."""


def bench_export(
    paths: Sequence[str | Path],
    *,
    train: str = "",
    test: str = "",
    limit: int = 0,
    exits: Sequence[int] = (),
    threads: int = 1,
    seconds: float = SECONDS,
    out: str | Path = "",
    progress: Callable[[str, float], None] = lambda part, share: None,
) -> list[Benched]:
    """Measure exports and live encoders, one after the other.

    Args:
        paths: folders or files of exports; a run directory stands for its live encoder, cut at each depth.
        train: URI of labelled images to find neighbours among; with `test`, accuracies are measured.
        test: URI of labelled images to classify.
        limit: images used of each; 0 uses all.
        exits: depths of live encoders; all without any.
        threads: that each network may use.
        seconds: for which calls of one size are repeated.
        out: JSON file to write; none when left out.
        progress: told which network is measured and the share of all that is done.

    Raises:
        SettingsError, DataError, RunError: what a user can mend.
    """
    if bool(train) != bool(test):
        raise SettingsError("train, test: an accuracy needs both; name both or none")
    runners = [open_runner(Path(path), threads) for path in paths]  # what cannot be run is told before anything is
    rows = []
    for number, (path, runner) in enumerate(zip(paths, runners, strict=True)):
        progress(str(path), number / len(runners))
        found = _accuracy(runner, train, test, limit) if train else {}
        rows += [
            Benched(cost=cost, accuracy={name: found[name] for name in cost.outputs if name in found})
            for cost in measure(Path(path), exits, threads, seconds)
        ]
    if out:
        table = [{**dataclasses.asdict(row.cost), "knn_accuracy": row.accuracy} for row in rows]
        words = {"train": train, "test": test, "limit": limit, "networks": table}
        write_atomically(Path(out), json.dumps(words, indent=1) + "\n")
    return rows


def _accuracy(runner: Runner, train: str, test: str, limit: int) -> dict[str, float]:
    """By the protocol of `evaluate`: weighted k-NN."""
    size, config = runner.image_size, EvaluationConfig()
    bank, queries = (_open(uri, limit, size) for uri in (train, test))
    task = find_task(bank, queries, config.seed)
    if task.obstacle:
        raise DataError(f"train, test: {task.obstacle}; name labelled images, or leave them out")
    known, asked = _vectors(runner, bank, task.train_rows), _vectors(runner, queries, task.test_rows)
    return {
        name: (
            classify(asked[name], known[name], task.train_labels, k=config.k, temperature=config.temperature)
            == task.test_labels
        ).double().mean().item()
        for name in known
    }  # fmt: skip


def _open(uri: str, limit: int, image_size: int) -> ImageStore:
    return open_store(uri, DataConfig(uri=uri, limit=limit), fit_sizes(open_source(uri), image_size)[0])


def _vectors(runner: Runner, store: ImageStore, rows: Tensor) -> dict[str, Tensor]:
    parts = [runner.all(center_view(pixels, runner.image_size)) for pixels in store.batches(rows.split(64))]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
