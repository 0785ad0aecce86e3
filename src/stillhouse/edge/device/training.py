"""A clone learns from the images of one device, in a run directory that may be killed and gone on with."""

import gc
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from stillhouse.config import Table, assign
from stillhouse.edge.device.limits import Limits, OutOfMemory, Tell, Watch, memory_limit
from stillhouse.edge.device.outline import outline
from stillhouse.edge.device.terms import Lease
from stillhouse.edge.device.visit import Visit
from stillhouse.errors import DataError, Interrupted, RunError, SettingsError
from stillhouse.methods.choice import Choice
from stillhouse.methods.method import Method
from stillhouse.methods.table import METHODS
from stillhouse.recipes.preparing import Prepared, prepare
from stillhouse.recipes.recipe import Recipe, read_recipe
from stillhouse.recipes.run import alongside, as_wanted, begin, go_on
from stillhouse.training.journal import Listener

TAKEN = ("encoder", "method", "training", "peer")
"""Groups of the core's recipe that a device follows. All others are its own, so that no server names a file."""
LEAST_BATCH = 8
"""Below so few images at once a batch is not made smaller."""


def device_table(lease: Lease, clone: Path) -> Table:
    """The recipe of a visit: what the core asks for, on this device's terms.

    Order and views of the images follow from the lease, so that no two visits are alike, not even of the same core.

    Raises:
        SettingsError: it is no recipe, or it needs what a device does not have.
    """
    sent = lease.recipe
    table = {group: sent[group] for group in TAKEN if isinstance(sent.get(group), dict)}
    data = sent.get("data")
    known = {key: data[key] for key in ("classes", "store_size") if key in data} if isinstance(data, dict) else {}
    training = dict(table.get("training", {}))
    if training.get("steps"):
        training.pop("epochs", None)  # followed from the images of the server
    training |= {"device": "auto", "precision": "auto", "memory_format": "auto", "tensorboard": False}
    training["seed"] = int.from_bytes(hashlib.blake2b(lease.lease.encode(), digest_size=4).digest())
    table |= {
        "data": known,
        "training": training | {"health_steps": 0},
        "evaluation": {"every": 0},
        "start": {"source": str(clone), "digest": lease.digest},
    }
    try:
        companions = read_recipe(table).method.companions & {"teacher", "teachers"}
    except SettingsError as error:
        raise SettingsError(
            f"the core's recipe is not understood; is the server of another version?\n{error}"
        ) from error
    if companions:
        raise SettingsError(
            "the core's recipe: its method needs a teacher, which a device does not fetch; tell its owner"
        )
    return table


def learn(
    visit: Visit,
    lease: Lease,
    data: str,
    limits: Limits,
    *,
    check: Callable[[Method], object] = lambda outlined: None,
    cancelled: Callable[[], str] = str,
    listeners: Sequence[Listener] = (),
    tell: Tell = print,
) -> Method:
    """Train the clone, from where an earlier call was killed if one was.

    Args:
        visit: with the clone in it.
        lease: what was lent.
        data: URI of the device's images.
        limits: what may be taken.
        check: shown the outline of the method before anything is learnt; what it raises ends the call.
        cancelled: why nobody wants the visit any more; empty while somebody does. What was learnt is given anyway.
        listeners: hear every record.
        tell: told in a sentence what goes on beside.

    Returns:
        The method, trained.

    Raises:
        Interrupted: a signal came; the same call goes on.
        SettingsError: as of any run, and where the recipe would build something else than the clone.
        DataError, RunError, TrainingError: as of any run.
    """
    table = device_table(lease, visit.clone)
    while True:
        try:
            with memory_limit(limits.max_bytes):
                wanted = as_wanted(table, data)
                check(outline(wanted))
                return _learn(visit, wanted, listeners, tell, partial(Watch, limits, cancelled=cancelled))
        except OutOfMemory as error:
            table = _smaller(table, limits, str(error))
        gc.collect()
        shutil.rmtree(visit.run.folder, ignore_errors=True)
        training = table["training"]
        tell(
            f"memory: {limits.max_bytes / 2**20:,.0f} MiB do not do; begins anew with batches of "
            f"{training['batch_size']}, {training['accumulate']} for a step"
        )


def _learn(
    visit: Visit, wanted: Recipe, listeners: Sequence[Listener], tell: Tell, watch_over: Callable[..., Watch]
) -> Method:
    with alongside(wanted):
        resumed = _resumable(visit, wanted, tell)
        prepared, spent = resumed or (prepare(wanted), 0.0)
        watch = watch_over(spent=spent, tell=tell)
        try:
            (go_on if resumed else begin)(visit.run, prepared, listeners, watch)
        except Interrupted:
            if not watch.reason:
                raise
        return prepared.method


def _resumable(visit: Visit, wanted: Recipe, tell: Tell) -> tuple[Prepared, float] | None:
    """What an earlier call trained, and for how many seconds, if it can be gone on with.

    Clone and images may lie elsewhere by now, if they are the same: the run keeps the names that it began with. A run
    that cannot be gone on with is cleared away.
    """
    run = visit.run
    if run.checkpoints.last.exists():
        try:
            run.check_unchanged()
            began = run.read_recipe()
            start = replace(began.start, source=wanted.start.source)
            prepared = prepare(replace(began, data=replace(began.data, uri=wanted.data.uri), start=start))
            content = replace(run.checkpoints, data=prepared.images).check_images()
            return replace(prepared, recipe=began), float(content["progress"]["seconds"])
        except (RunError, SettingsError, DataError) as error:
            tell(f"begins anew: {error}")
    shutil.rmtree(run.folder, ignore_errors=True)
    return None


def _smaller(table: Table, limits: Limits, told: str) -> Table:
    """The recipe with batches half as large and twice as many of them, where that is the same lesson.

    Raises:
        SettingsError: it is not, or batches are as small as they get.
    """
    choice: Choice = read_recipe(table).method
    training = read_recipe(table).training
    given = f"--max-memory: {limits.max_bytes / 2**20:,.0f} MiB do not do for batches of {training.batch_size} ({told})"
    together = [part.name for part in choice.parts if not METHODS[part.name].separable]
    if together:
        raise SettingsError(
            f"{given}, and the images of a batch of {together[0]} learn from each other, so it is not made smaller; "
            "give more, or ask the owner of the core for smaller batches"
        )
    if training.batch_size < 2 * LEAST_BATCH:
        raise SettingsError(f"{given}; give more")
    table = assign(table, "training.accumulate", 2 * training.accumulate)
    return assign(table, "training.batch_size", training.batch_size // 2)
