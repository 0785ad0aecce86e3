"""The loop: views, loss, gradient, step; and what is told and saved on the way."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.data.stream import Batch, ViewStream
from stillhouse.distributed import agree, barrier, is_main
from stillhouse.errors import Interrupted, TrainingError
from stillhouse.methods.method import Method
from stillhouse.networks.encoder import Encoder
from stillhouse.schedules import cosine, warmup_cosine
from stillhouse.training.checkpoint import Checkpoints, TrainingState
from stillhouse.training.journal import GLIMPSE, Listener
from stillhouse.training.optimizers import clip_each, pull, set_learning_rate, set_weight_decay
from stillhouse.training.precision import autocast
from stillhouse.training.settings import TrainingConfig
from stillhouse.training.signals import StopRequest

SECONDS_BETWEEN_SAVES = 300.0
SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Moment:
    """What an observer may look at."""

    step: int
    epoch: float
    progress: float
    encoder: Encoder


@dataclass(frozen=True)
class Observer:
    """Something that looks at the encoder now and then and says what it saw.

    `look` must leave no trace. A record with a `score` takes part in choosing the best checkpoint.
    """

    look: Callable[[Moment], Mapping[str, Any]]
    every: int
    """Steps between two looks; it also looks after the last step."""


@dataclass
class Loop:
    """One run's training: what learns, from what, and who hears about it."""

    method: Method
    stream: ViewStream
    optimizer: torch.optim.Optimizer
    config: TrainingConfig
    checkpoints: Checkpoints
    device: torch.device
    listeners: Sequence[Listener] = ()
    observers: Sequence[Observer] = ()
    halt: Callable[[], str] = str
    """Asked after every step; anything but an empty answer says why the run is to be saved and stopped."""
    anchors: Sequence[Tensor] = ()
    """What `training.proximal` pulls to: a tensor for each that the optimizer updates, in its order."""
    model: nn.Module = field(init=False)
    """What is called: the method, or the method under data parallelism."""

    def __post_init__(self) -> None:
        self.model = self.method
        self._tally = _Tally()

    @property
    def total_steps(self) -> int:
        """Length of the run in optimizer steps."""
        return self.config.total_steps(self.stream.steps_per_epoch)

    def run(self, state: TrainingState) -> None:
        """Train from `state` to the end.

        Raises:
            Interrupted: a signal came, or `halt` had a reason; the run is saved.
            TrainingError: a loss was not finite; the last good checkpoint is as it was.
            RunError: a file could not be written; the last good checkpoint is as it was.
        """
        warmup = min(0.5, self.config.warmup_epochs / self.config.epochs)
        learning_rate = warmup_cosine(self.config.peak_learning_rate, warmup)
        weight_decay = cosine(self.config.weight_decay, self.config.final_weight_decay)
        batches = self._arrivals(self.stream.batches(state.step))
        self.method.train()
        saved = time.monotonic()
        with StopRequest() as stop:
            while state.step < self.total_steps:
                started = time.perf_counter()
                progress = state.step / self.total_steps
                rate = learning_rate(progress)
                set_learning_rate(self.optimizer, rate)
                set_weight_decay(self.optimizer, weight_decay(progress))
                self._step(batches, state.step, progress)
                state.step += 1
                self._tell(state, rate, started)
                best = self._observe(state)
                reason = self.halt() or (stop.signal.name if stop.signal else "")
                asked, due, best = agree(bool(reason), self._is_time_to_save(state.step, saved), best)
                if asked or due or best:
                    self._save(state, best=best)
                    saved = time.monotonic()
                if asked and state.step < self.total_steps:
                    raise Interrupted(
                        f"training: stopped by {reason or 'another process'} after step {state.step}; saved"
                    )

    def _step(self, batches: Iterator[Batch], step: int, progress: float) -> None:
        share = 1.0 / self.config.accumulate
        for batch in itertools.islice(batches, self.config.accumulate):
            with autocast(self.config.precision, self.device):
                terms: dict[str, Tensor] = self.model(batch, progress)
            loss = torch.stack(list(terms.values())).sum()
            (loss * share).backward()
            self._tally.add(step, terms, len(batch.index) * self.stream.world_size)
        learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.config.proximal:
            pull(learning, self.anchors, self.config.proximal)
        if self.config.clip_each:
            clip_each(learning, self.config.clip_each)
        if self.config.clip:
            nn.utils.clip_grad_norm_(learning, self.config.clip, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(progress)

    def _arrivals(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            started = time.perf_counter()
            batch = next(batches)
            self._tally.waiting += time.perf_counter() - started
            yield batch

    def _tell(self, state: TrainingState, rate: float, started: float) -> None:
        """A line for the log at its interval, and glimpses in between for whoever watches; ends the step's time."""
        is_line = state.step % self.config.log_steps == 0 or state.step in (1, self.total_steps)
        is_glimpse = time.monotonic() - self._tally.looked > SECONDS_BETWEEN_LOOKS
        terms = self._tally.terms() if is_line or is_glimpse else {}  # waits for the device
        elapsed = time.perf_counter() - started
        state.seconds += elapsed
        self._tally.seconds += elapsed
        if not terms:
            return
        record = {
            "kind": "step" if is_line else GLIMPSE,
            "step": state.step,
            "epoch": state.step / self.stream.steps_per_epoch,
            "progress": state.step / self.total_steps,
            "loss": sum(terms.values()),
            "terms": terms,
            "learning_rate": rate,
            "images_per_second": self._tally.images / max(self._tally.seconds, 1e-9),
            "data_share": self._tally.waiting / max(self._tally.seconds, 1e-9),
            "seconds": state.seconds,
        }
        self._publish(record)
        self._tally.looked = time.monotonic()
        if is_line:
            self._tally.restart()

    def _observe(self, state: TrainingState) -> bool:
        """Let observers look; True when one of them saw the best score so far."""
        best = False
        for observer in self.observers:
            if state.step % observer.every and state.step < self.total_steps:
                continue
            self._tally.check()
            if is_main():
                epoch, progress = state.step / self.stream.steps_per_epoch, state.step / self.total_steps
                record = observer.look(Moment(state.step, epoch, progress, self.method.encoder))
                self._publish({"step": state.step, "epoch": epoch, **record})
                if record.get("score", -1.0) > state.best:
                    state.best, state.best_step, best = record["score"], state.step, True
            barrier()
        return best

    def _is_time_to_save(self, step: int, saved: float) -> bool:
        if step == self.total_steps:
            return True
        if self.config.checkpoint_steps:
            return step % self.config.checkpoint_steps == 0
        return step % self.stream.steps_per_epoch == 0 or time.monotonic() - saved > SECONDS_BETWEEN_SAVES

    def _save(self, state: TrainingState, *, best: bool) -> None:
        self._tally.check()
        if is_main():
            self._refuse_broken_weights(state.step)
            self.checkpoints.save(self.method, self.optimizer, state)
            if best:
                self.checkpoints.mark_best()
        barrier()

    def _refuse_broken_weights(self, step: int) -> None:
        """A gradient may be broken where the loss is not; what follows from it must not replace a good checkpoint."""
        weights = [tensor for tensor in self.method.state_dict().values() if tensor.is_floating_point()]
        if not bool(torch.stack(torch._foreach_norm(weights)).isfinite().all()):
            raise TrainingError(
                f"training: weights are not finite after step {step}, though the loss is; start anew with a lower "
                "training.learning_rate, training.clip=1.0 or training.precision=fp32; the last checkpoint is intact"
            )

    def _publish(self, record: Mapping[str, Any]) -> None:
        for listener in self.listeners:
            listener.hear(record)


class _Tally:
    """Loss terms since the last line, kept on the device until somebody asks."""

    def __init__(self) -> None:
        self.looked = 0.0
        self._unchecked: list[tuple[int, Tensor]] = []
        self.restart()

    def restart(self) -> None:
        self.images, self.seconds, self.waiting = 0, 0.0, 0.0
        self._names: list[str] = []
        self._recent: list[Tensor] = []

    def add(self, step: int, terms: dict[str, Tensor], images: int) -> None:
        self._names = list(terms)
        values = torch.stack([term.detach().float() for term in terms.values()])
        self._recent.append(values)
        self._unchecked.append((step, values))
        self.images += images

    def terms(self) -> dict[str, float]:
        """Mean of each term since the last line."""
        self.check()
        return dict(zip(self._names, torch.stack(self._recent).mean(0).tolist(), strict=True))

    def check(self) -> None:
        """Raise `TrainingError` when a term since the last check was not finite."""
        if not self._unchecked:
            return
        steps, values = zip(*self._unchecked, strict=True)
        self._unchecked = []
        table = torch.stack(values)
        bad = (~table.isfinite()).any(1).nonzero()
        if len(bad):
            first = int(bad[0])
            told = ", ".join(
                f"{name} {value:g}" for name, value in zip(self._names, table[first].tolist(), strict=True)
            )
            raise TrainingError(
                f"training: the loss was not finite at step {steps[first] + 1} ({told}); start anew with a lower "
                "training.learning_rate, training.clip=1.0 or training.precision=fp32; the last checkpoint is intact"
            )
