"""What a person sees while something runs: a live panel in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from stillhouse.training.journal import GLIMPSE, NOTE

SECONDS_BETWEEN_LINES = 10.0


class Terminal:
    """Hears the records of training and shows the newest of each kind."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._live = Live(console=self.console, refresh_per_second=4, transient=False)
        self._newest: dict[str, Mapping[str, Any]] = {}
        self._printed = 0.0
        self._gone = False

    def __enter__(self) -> "Terminal":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def hear(self, record: Mapping[str, Any]) -> None:
        """Show the record; when nobody reads any more, training goes on unseen."""
        if not self._gone:
            try:
                self._show(record)
            except OSError:
                self._gone = True

    def _show(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "start":
            self.console.print(*record["about"], sep="\n", soft_wrap=True, highlight=False, markup=False)
            return
        if record["kind"] == NOTE:
            self.console.print(record["sentence"], soft_wrap=True, highlight=False, markup=False)
            return
        kind = "step" if record["kind"] == GLIMPSE else str(record["kind"])
        self._newest[kind] = record
        if "step" not in self._newest:
            return
        if self.console.is_terminal:
            self._live.update(self._panel())
        elif kind != "health" and (kind != "step" or self._is_due(record)):
            self._printed = time.monotonic()
            self.console.print(" | ".join(self._parts()), soft_wrap=True, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the last picture standing."""
        self._live.stop()

    def _is_due(self, record: Mapping[str, Any]) -> bool:
        return record["progress"] == 1 or time.monotonic() - self._printed > SECONDS_BETWEEN_LINES

    def _panel(self) -> Group:
        step = self._newest["step"]
        bar = Progress(TextColumn("{task.description}"), BarColumn(bar_width=None), console=self.console, expand=True)
        bar.add_task(f"{step['progress']:6.1%}", total=1.0, completed=step["progress"])
        return Group(bar, *(Text(part, overflow="ellipsis") for part in self._parts()))

    def _parts(self) -> list[str]:
        step = self._newest["step"]
        terms = "  ".join(f"{name} {value:.4f}" for name, value in step["terms"].items())
        parts = [
            f"step {step['step']}  epoch {step['epoch']:.2f}  {_remaining(step)}",
            f"{step['images_per_second']:.0f} images/s, {step['data_share']:.0%} of the time waiting for data",
            f"loss {step['loss']:.4f}  ({terms})" if len(step["terms"]) > 1 else terms,
        ]
        if "knn" in self._newest:
            blocks = self._newest["knn"]["blocks"]
            scores = " ".join(f"{100 * accuracy:.1f}" for accuracy in blocks)
            parts.append(f"k-NN % per depth: {scores} (epoch {self._newest['knn']['epoch']:.1f})")
        if "health" in self._newest:
            parts.append(str(self._newest["health"]["sentence"]))
        return parts


def _remaining(step: Mapping[str, Any]) -> str:
    if step["progress"] >= 1:
        return f"done in {timedelta(seconds=round(step['seconds']))}"
    left = step["seconds"] * (1 - step["progress"]) / max(step["progress"], 1e-9)
    return f"{timedelta(seconds=round(left))} left"


@contextmanager
def working(what: str) -> Iterator[Callable[[str, float], None]]:
    """Show that something is going on; the function given tells which part, and the share of it that is done."""
    console = Console(stderr=True)
    with console.status(what) as status:

        def tell(part: str, share: float) -> None:
            status.update(f"{what}: {part} {share:.0%}")

        yield tell
