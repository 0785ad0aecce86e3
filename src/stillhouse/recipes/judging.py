"""Judging an encoder by images named by their URIs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stillhouse.config import assign
from stillhouse.data.sources import open_source
from stillhouse.data.store import DataConfig, ImageStore, fit_sizes, open_store
from stillhouse.errors import SettingsError
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.judge import evaluate as judge
from stillhouse.evaluation.results import Evaluation, Sources
from stillhouse.evaluation.suites import settings_of
from stillhouse.export.original import read_table
from stillhouse.files import write_atomically
from stillhouse.networks.build import build_encoder
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.saved import CARD
from stillhouse.recipes.directory import Run
from stillhouse.recipes.drawing import draw_atlas
from stillhouse.recipes.preparing import choose_device
from stillhouse.recipes.recipe import Recipe, read_recipe

Told = Callable[[str, float], None]


def _nobody(part: str, share: float) -> None:
    """Hear progress and say nothing."""


def evaluate(
    encoder: Encoder,
    train: str,
    test: str,
    *,
    untrained: Encoder | None = None,
    config: EvaluationConfig = EvaluationConfig(),  # noqa: B008 (frozen)
    limit: int = 0,
    progress: Told = _nobody,
) -> Evaluation:
    """k-NN and linear probe of every depth, beside raw pixels and, if given, an untrained network.

    Args:
        encoder: in the form that `stillhouse.load` gives.
        train: URI of labelled images to learn from.
        test: URI of the images to judge on; the same URI as `train` is split, so that none is judged by itself.
        untrained: a network like `encoder` before training.
        config: neighbours, probes, alignment.
        limit: images used of each source; 0 uses all.
        progress: told which part is under way and the share of it that is done.

    Raises:
        DataError: images cannot be read, or test classes are missing from the training images.
    """
    store_size = fit_sizes(open_source(train), encoder.image_size)[0]
    stores = _open(DataConfig(uri=train, limit=limit), DataConfig(uri=test, limit=limit), store_size)
    sources = Sources(train=train, test=test)
    return judge(encoder, *stores, untrained=untrained, config=config, sources=sources, progress=progress)


def evaluate_run(
    folder: str | Path,
    data: str,
    train: str = "",
    settings: Mapping[str, Any] | None = None,
    progress: Told = _nobody,
    *,
    peer: bool = False,
    suite: str = "quick",
) -> Evaluation:
    """Judge the encoder of a run directory and write evaluation.json there.

    Args:
        folder: the run directory.
        data: URI of the images to judge on.
        train: URI of labelled images to learn from; the images the run was trained on when left out.
        settings: dotted names to values in `data` (for both sources) and `evaluation`.
        progress: as in `evaluate`.
        suite: which settings are begun with, `quick` or `full`.
        peer: judge the second network of a run in which two learned together, into evaluation-peer.json.

    Raises:
        SettingsError, DataError, RunError: what a user can mend.
    """
    run = Run(Path(folder))
    recipe = run.read_recipe()
    changed = _with_settings(recipe, {**settings_of(suite), **(settings or {})})
    fixed = {name.partition(".")[2]: value for name, value in (settings or {}).items() if name.startswith("data.")}
    known = replace(changed.data, uri=train, limit=int(fixed.get("limit", 0))) if train else changed.data
    asked = replace(changed.data, uri=data, limit=int(fixed.get("limit", 0)))
    device = choose_device("auto" if recipe.training.device.startswith("cuda") else recipe.training.device)
    bank, queries = _open(known, asked, changed.data.store_size)
    judged = recipe.peer if peer else recipe.encoder
    seed = recipe.training.seed + 1 if peer else recipe.training.seed
    encoder = (run.load_peer() if peer else run.load()).to(device)
    weights = str(read_table((run.peer_folder if peer else run.encoder_folder) / CARD).get("sha256", ""))
    evaluation = judge(
        encoder,
        bank,
        queries,
        untrained=build_encoder(judged, seed).to(device),
        classifier=run.load_classifier().to(device) if run.classifier_folder.exists() and not peer else None,
        config=changed.evaluation,
        sources=Sources(train=known.uri, test=asked.uri, encoder=judged.name, weights_sha256=weights),
        progress=progress,
    )
    write_atomically(run.peer_evaluation_file if peer else run.evaluation_file, evaluation.to_json())
    if not peer:
        draw_atlas(run, encoder, bank, queries, evaluation, changed.evaluation, progress)
    run.describe()
    return evaluation


def _open(train: DataConfig, test: DataConfig, store_size: int) -> tuple[ImageStore, ImageStore]:
    """Both stores; one and the same where both names mean the same images, which are then split."""
    bank = open_store(train.uri, train, store_size)
    if open_source(train.uri).fingerprint == open_source(test.uri).fingerprint:
        return bank, bank
    return bank, open_store(test.uri, test, store_size)


def _with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    table = recipe.to_table()
    for name, value in settings.items():
        if name.partition(".")[0] not in {"data", "evaluation"}:
            raise SettingsError(f"--set {name}: only data.* and evaluation.* can change here; train anew for the rest")
        table = assign(table, name, value)
    return read_recipe(table)
