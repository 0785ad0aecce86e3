"""Which charts a run has: accuracy by block and over time, losses, rates, health, alignment."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from stillhouse.report.charts import Axes, Chart, Line, finite, line_chart, span
from stillhouse.report.evaluated import Alignment, Evaluation, Result
from stillhouse.report.facts import KNN, Health, Step

Entry = TypeVar("Entry")

NUM_POINTS = 500  # per line; a longer log is thinned
NUM_TERMS = 8  # the largest ones are drawn
TERM_COLORS = tuple(f"--term-{number}" for number in range(1, NUM_TERMS + 1))
OTHER_LABELS = "linear probe of the encoder, told fewer labels or wrong ones"
DEPTH_COLORS = tuple(f"--depth-{number}" for number in range(1, 7))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its title and one line below it; plain text, not yet HTML."""

    title: str
    caption: str
    chart: Chart


def accuracy_by_block(evaluation: Evaluation) -> list[Figure]:
    """One figure per protocol that was measured at more than one block, all with the same y axis.

    What a linear probe does with fewer or wrong labels is one more.
    """
    protocols = [name for name in evaluation.protocols if len(evaluation.of(name, "encoder")) > 1]
    drawn = {name: _protocol_lines(evaluation, name) for name in protocols}
    compared = _lesson_lines(evaluation)
    drawn |= {OTHER_LABELS: compared} if compared else {}
    shared = span(line for lines in drawn.values() for line in lines)
    axes = Axes(x_title="block", y_format=".0%", y_span=shared, whole_x=True)
    return [
        Figure(title=spoken(name), caption=f"{name}, with 95 % intervals", chart=line_chart(lines, axes))
        for name, lines in drawn.items()
    ]


def spoken(protocol: str) -> str:
    """What a protocol is called in a heading."""
    known = {"knn": "k-NN accuracy", "linear": "Linear accuracy", OTHER_LABELS: "Linear accuracy by labels"}
    return known.get(protocol.partition("(")[0], "Accuracy")


def _protocol_lines(evaluation: Evaluation, protocol: str) -> list[Line]:
    encoder, untrained = (evaluation.of(protocol, subject) for subject in ("encoder", "untrained"))
    lines = [_results_line("encoder", encoder, "--encoder", 2.6)]
    if untrained:
        lines.append(_results_line("untrained", untrained, "--baseline", 1.6))
    for pixels in evaluation.of(protocol, "pixels")[:1]:
        ends = (encoder[0].block, encoder[-1].block)
        lines.append(
            Line(
                name="raw pixels",
                x=ends,
                y=(pixels.accuracy,) * 2,
                color="--baseline",
                dash="dash",
                width=1.6,
                bars=[pixels.bounds] * 2,
            )
        )
    return lines


def _lesson_lines(evaluation: Evaluation) -> list[Line]:
    """The encoder's linear probe told all labels, then told others, a line for each; none where there are no others."""
    others = evaluation.lessons
    usual = {name: "all labels" for name in evaluation.protocols if name.startswith("linear")}
    told = [(name, words, evaluation.of(name, "encoder")) for name, words in {**usual, **others}.items() if others]
    colors = itertools.cycle(("--encoder", *TERM_COLORS))
    return [
        _results_line(words, results, color, 2.6 if name in usual else 1.6)
        for (name, words, results), color in zip(told, colors, strict=False)
        if len(results) > 1
    ]


def _results_line(name: str, results: Sequence[Result], color: str, width: float) -> Line:
    return Line(
        name=name,
        x=[result.block for result in results],
        y=[result.accuracy for result in results],
        color=color,
        width=width,
        bars=[result.bounds for result in results],
    )


def accuracy_over_time(knn: Sequence[KNN]) -> list[Figure]:
    """k-NN accuracy of every block while training, darker for deeper blocks."""
    count = max((len(line.blocks) for line in knn), default=0)
    x, title = _time([line.epoch for line in knn], [line.step for line in knn])
    lines = [
        Line(
            name=f"block {block + 1}",
            x=x,
            y=[line.blocks[block] if block < len(line.blocks) else math.nan for line in knn],
            color=DEPTH_COLORS[round((block + 1 == count or block / (count - 1)) * (len(DEPTH_COLORS) - 1))],
            named=count <= 12 or block % 4 == 3 or block + 1 == count,
        )
        for block in range(count)
    ]
    queries = knn[-1].queries if knn else 0
    caption = f"Each block, measured on {queries:,} images" if queries else "Each block"
    return _figures("k-NN accuracy while training", caption, lines, Axes(x_title=title, y_format=".0%"))


def losses(steps: Sequence[Step]) -> list[Figure]:
    """Loss terms with their sum, and the learning rate."""
    shown = thinned(steps)
    x = [line.step for line in shown]
    terms = _largest_terms(steps)
    total = len({name for line in steps for name in line.terms})
    lines = [
        Line(name=name, x=x, y=[line.terms.get(name, math.nan) for line in shown], color=color)
        for name, color in zip(terms, TERM_COLORS, strict=False)
    ]
    if total != 1:
        lines.insert(0, Line(name="sum", x=x, y=[line.loss for line in shown], color="--ink", width=2.6))
    caption = "Weighted terms, as they are minimized" + (
        f"; the {len(terms)} largest of {total}" * (len(terms) < total)
    )
    rate = Line(name="", x=x, y=[line.learning_rate for line in shown], color="--encoder", named=False)
    loss_axes = Axes(x_title="step", may_be_logarithmic=True)
    return [
        *_figures("Loss", caption, lines, loss_axes),
        *_figures("Learning rate", "As it was applied", [rate], _from_zero("step", rate)),
    ]


def _largest_terms(steps: Sequence[Step]) -> list[str]:
    """Names in the order of the log, the largest mean magnitudes only."""
    names = list(dict.fromkeys(name for line in steps for name in line.terms))
    sizes = {name: sum(map(abs, finite(line.terms.get(name, 0.0) for line in steps))) for name in names}
    kept = sorted(names, key=sizes.__getitem__, reverse=True)[:NUM_TERMS]
    return [name for name in names if name in kept]


def health(lines: Sequence[Health]) -> list[Figure]:
    """Spread and effective rank of the embeddings; both fall towards zero and one when they collapse."""
    shown = thinned(lines)
    x = [line.step for line in shown]
    spread = Line(name="", x=x, y=[line.spread for line in shown], color="--encoder", named=False)
    rank = Line(name="", x=x, y=[line.effective_rank for line in shown], color="--encoder", named=False)
    width = f", out of {shown[-1].dim}" if shown and shown[-1].dim else ""
    return [
        *_figures("Spread", "1: directions fill the space evenly; 0: collapse", [spread], _from_zero("step", spread)),
        *_figures("Effective rank", f"Directions that embeddings use{width}", [rank], _from_zero("step", rank)),
    ]


def _from_zero(x_title: str, *lines: Line, whole_x: bool = False) -> Axes:
    return Axes(x_title=x_title, y_span=(0.0, max(span(lines)[1], 1e-9)), whole_x=whole_x)


def alignment(measured: Alignment) -> list[Figure]:
    """Distances of positive and negative pairs by block, and their ratio."""
    x = [block.block for block in measured.blocks]
    positive = Line(name="same image", x=x, y=[block.positive for block in measured.blocks], color="--encoder")
    negative = Line(name="other image", x=x, y=[block.negative for block in measured.blocks], color="--baseline")
    ratio = Line(name="", x=x, y=[block.ratio for block in measured.blocks], color="--encoder", named=False)
    distances = _from_zero("block", positive, negative, whole_x=True)
    ratios = Axes(x_title="block", whole_x=True)
    caption = "Mean squared distance of unit vectors" + (f", {measured.images:,} images" if measured.images else "")
    return [
        *_figures("Distance of two views", caption, [negative, positive], distances),
        *_figures("Ratio", "Other image over same image; higher tells images apart better", [ratio], ratios),
    ]


def _figures(title: str, caption: str, lines: Sequence[Line], axes: Axes) -> list[Figure]:
    """One figure, or none if nothing finite is to be seen."""
    chart = line_chart(lines, axes)
    return [Figure(title=title, caption=caption, chart=chart)] if chart else []


def _time(epochs: Sequence[float], steps: Sequence[int]) -> tuple[Sequence[float], str]:
    return (epochs, "epoch") if all(map(math.isfinite, epochs)) else (steps, "step")


def thinned(lines: Sequence[Entry]) -> list[Entry]:
    """At most `NUM_POINTS` and one, evenly spaced, the last one among them."""
    every = math.ceil(len(lines) / NUM_POINTS) or 1
    return [line for number, line in enumerate(lines) if number % every == 0 or number == len(lines) - 1]
