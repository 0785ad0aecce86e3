"""Several recipes in order, each a run directory inside one folder; the same command begins, goes on and ends."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.config import differences
from stillhouse.data.sources import open_source
from stillhouse.errors import Interrupted, RunError, SettingsError
from stillhouse.recipes.directory import Run
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.recipe import Recipe
from stillhouse.recipes.run import alongside, as_wanted, resume, train
from stillhouse.training.journal import Listener


@dataclass(frozen=True)
class Step:
    """One recipe of a pipeline, and which earlier run it needs for what."""

    recipe: str
    needs: Mapping[str, str]
    """Setting to the name of the step whose run directory it is."""


PIPELINES: dict[str, dict[str, Step]] = {
    "simclrv2": {
        "pretrain": Step("simclrv2-pretrain", {}),
        "finetune": Step("simclrv2-finetune", {"start.source": "pretrain"}),
        "distill": Step("simclrv2-distill", {"teacher.source": "finetune"}),
    },
}
"""Steps by name, in order, of every pipeline."""


@dataclass(frozen=True)
class Stage:
    """A step of a pipeline on its way: what is to be run, and where."""

    name: str
    recipe: str
    run: Run
    data: str
    settings: Mapping[str, Any]

    def wanted(self) -> Recipe:
        """The recipe with its settings; `SettingsError` when one of them is wrong."""
        return as_wanted(self.recipe, self.data, self.settings)

    def advance(self, listeners: Sequence[Listener] = ()) -> bool:
        """Train what is left of this stage; the stages before it must be finished.

        Returns:
            False when nothing was left.

        Raises:
            RunError: it was begun with other settings.
            Interrupted: a signal came; the same command goes on.
        """
        try:
            if not self.run.checkpoints.last.exists():
                train(self.recipe, self.data, self.run.folder, self.settings, listeners)
            elif self._is_finished():
                return False
            else:
                resume(self.run.folder, listeners)
        except Interrupted as stop:
            raise Interrupted(f"{self.name}: {stop.__cause__ or stop}; go on with the same command") from stop
        return True

    def _is_finished(self) -> bool:
        self.run.check_unchanged()
        wanted = self.wanted()
        with alongside(wanted):
            prepared = prepare(wanted)
        if changed := differences(self.run.read_table(), prepared.recipe.to_table()):
            raise RunError(
                f"{self.run.folder}: {self.name} was begun with other settings ({'; '.join(changed)}); "
                "set them back to go on, or choose another --out"
            )
        step = self.run.checkpoints.read_step()
        return step >= prepared.total_steps and self.run.is_saved(prepared.method, step)


def plan(
    name: str, data: str, out: str | Path, labels: str = "", settings: Mapping[str, Any] | None = None
) -> list[Stage]:
    """The stages of a pipeline, in order; nothing is trained or written.

    Args:
        name: a key of `PIPELINES`.
        data: URI of the images, some of them with labels.
        out: folder in which every stage has its run directory.
        labels: how many labels are known, as `data.labelled`; empty is all of them.
        settings: dotted names to values, each behind the name of its stage (`pretrain.training.epochs`); those in
            `data` are for all stages.

    Raises:
        SettingsError: a name or a value is wrong, or the images have no labels to learn from.
    """
    if name not in PIPELINES:
        near = difflib.get_close_matches(name, PIPELINES, 1, 0.0)[0]
        raise SettingsError(f"pipeline {name}: unknown; did you mean {near}? ({', '.join(PIPELINES)})")
    steps = PIPELINES[name]
    shared, own = _sorted(settings or {}, tuple(steps))
    known = {"data.labelled": labels} if labels else {}
    stages = []
    for place, step in steps.items():
        given = {setting: str(Path(out) / other) for setting, other in step.needs.items()}
        stages.append(Stage(place, step.recipe, Run(Path(out) / place), data, known | shared | given | own[place]))
    first, *_ = [stage.wanted() for stage in stages]
    found = open_source(first.data.uri).labels if first.data.uri and first.data.labels else np.array([], np.int64)
    if len(np.unique(found[found >= 0])) < 2:
        raise SettingsError(
            f"data.uri: {first.data.uri or 'no images'} shows labels of fewer than two classes, and {name} learns from "
            "labels after its first stage; name labelled images with --data, and leave data.labels on"
        )
    return stages


def run_pipeline(
    name: str,
    data: str,
    out: str | Path,
    labels: str = "",
    settings: Mapping[str, Any] | None = None,
    listeners: Callable[[str], Sequence[Listener]] = lambda stage: (),
) -> Run:
    """Begin a pipeline, or go on where it stopped, to its end; arguments as in `plan`.

    Args:
        listeners: told the name of each stage that is trained, gives who hears its records.

    Returns:
        The run directory of the last stage.
    """
    stages = plan(name, data, out, labels, settings)
    for stage in stages:
        stage.advance(listeners(stage.name))
    return stages[-1].run


def _sorted(settings: Mapping[str, Any], stages: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Settings of all stages, and those of each one without its name."""
    shared: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {stage: {} for stage in stages}
    for name, value in settings.items():
        stage, _, rest = name.partition(".")
        if stage == "data":
            shared[name] = value
        elif stage in own and rest:
            own[stage][rest] = value
        else:
            raise SettingsError(
                f"--set {name}: not a setting of a stage; write {stages[0]}.{name} (or {', '.join(stages[1:])}), "
                "or data.* for all of them"
            )
    return shared, own
