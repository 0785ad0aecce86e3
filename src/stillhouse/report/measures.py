"""Charts of what an evaluation measured beside accuracies: confusion, exits, likeness, spectrum, corruptions."""

import math
import statistics
from collections.abc import Sequence

from stillhouse.report.charts import Axes, Line, finite, line_chart, span
from stillhouse.report.curves import Figure
from stillhouse.report.heat import heat_map
from stillhouse.report.protocols import Confusion, Corruptions, Exits, Likeness, confusions, found, spectrum
from stillhouse.report.values import Tree
from stillhouse.report.verdict import Tile
from stillhouse.report.wording import percent

HALF = ("errors", "inside")
SPECTRUM = {
    "rankme": ("RankMe", "Directions that the vectors use"),
    "alpha": ("Decay", "Exponent of the spectrum (alpha-ReQ); about 1 is balanced"),
    "lidar": ("LiDAR", "Directions that tell images apart"),
}


def figures(measures: Tree, *, labelled: bool) -> dict[str, tuple[str, Sequence[Figure]]]:
    """Titled figures by the name of their section; what was not measured, or may not be shown, has none."""
    likeness = [_likeness(each) for each in found(measures, "cka", Likeness) if len(each.blocks) > 1]
    inside = [*likeness, *_spectrum(measures)]
    shown: dict[str, tuple[str, Sequence[Figure]]] = {"inside": ("Inside the encoder", inside)}
    if not labelled:
        return shown
    errors = [_confusion(name, each) for name, each in confusions(measures).items()]
    errors += [_corruptions(each) for each in found(measures, "corruptions", Corruptions) if each.accuracy]
    exits = [_exits(each) for each in found(measures, "exits", Exits) if each.depths]
    return {"errors": ("Where it errs", errors), "exits": ("Early exits", exits), **shown}


def spectrum_tiles(measures: Tree) -> list[Tile]:
    """Of what the spectrum says with one number."""
    values = {name: values[0] for name, values in spectrum(measures).values.items() if len(values) == 1}
    return [
        Tile(label=SPECTRUM[name][0], value=f"{value:.3g}", note=SPECTRUM[name][1])
        for name, value in values.items()
        if math.isfinite(value)
    ]


def _confusion(name: str, confusion: Confusion) -> Figure:
    sums = [max(1.0, math.fsum(row)) for row in confusion.counts]
    shares = [[count / total for count in row] for row, total in zip(confusion.counts, sums, strict=True)]
    told = [
        [
            f"{truth} taken for {taken}: {count:,.0f} of {total:,.0f}"
            for taken, count in zip(confusion.classes, row, strict=True)
        ]
        for truth, row, total in zip(confusion.classes, confusion.counts, sums, strict=True)
    ]
    chart = heat_map(shares, confusion.classes, confusion.classes, told, span=(0.0, 1.0),
                     row_title="true class", column_title="taken for")  # fmt: skip
    title = "Which class is taken for which" + f", {name}" * bool(name)
    return Figure(title=title, caption=_worst(confusion, shares), chart=chart)


def _worst(confusion: Confusion, shares: list[list[float]]) -> str:
    pairs = [
        (share, confusion.classes[row], confusion.classes[column])
        for row, line in enumerate(shares)
        for column, share in enumerate(line)
        if row != column and share > 0
    ]
    worst = sorted(pairs, reverse=True)[:3]
    named = ", ".join(f"{truth} for {taken} ({percent(share)})" for share, truth, taken in worst)
    return f"Each row is one class. Most often: {named}" if worst else "Each row is one class; none is mistaken"


def _exits(exits: Exits) -> Figure:
    timed = all(math.isfinite(depth.milliseconds) for depth in exits.depths)
    by_depth = Line(
        name="fixed depth",
        x=[depth.milliseconds if timed else depth.block for depth in exits.depths],
        y=[depth.accuracy for depth in exits.depths],
        color="--encoder",
        width=2.6,
    )
    mixed = Line(
        name="where sure",
        x=[point.milliseconds if timed else point.mean_depth for point in exits.curve],
        y=[point.accuracy for point in exits.curve],
        color="--term-2",
    )
    lines = [by_depth, mixed] if exits.curve else [by_depth]
    axes = Axes(x_title="milliseconds per image" if timed else "blocks", y_format=".0%", y_span=span(lines), height=360)
    chart = line_chart(lines, axes)
    for trace in chart.get("data", [])[:1]:
        trace |= {"mode": "lines+markers+text", "text": [str(depth.block) for depth in exits.depths],
                  "textposition": "top center", "textfont": {"color": "--muted"}}  # fmt: skip
    cost = "measured time" if timed else "depth"
    caption = f"Accuracy against {cost}; numbers are blocks. An image may leave where its head is sure enough"
    return Figure(title="What an earlier exit costs and saves", caption=caption, chart=chart)


def _likeness(likeness: Likeness) -> Figure:
    names = [str(number) for number in range(1, len(likeness.blocks) + 1)]
    told = [
        [f"blocks {row} and {column}: {value:.2f}" for column, value in zip(names, line, strict=True)]
        for row, line in zip(names, likeness.blocks, strict=True)
    ]
    chart = heat_map(likeness.blocks, names, names, told, span=(0.0, 1.0), row_title="block", column_title="block",
                     row_height=30, number=".2f")  # fmt: skip
    return Figure(title="CKA", caption="1: two blocks say the same of all images; 0: nothing in common", chart=chart)


def _corruptions(corruptions: Corruptions) -> Figure:
    ranked = sorted(corruptions.accuracy.items(), key=lambda item: -sum(finite(item[1])))
    severities = [str(number) for number in range(1, len(ranked[0][1]) + 1)]
    every = finite(value for _, values in ranked for value in values)
    told = [
        [f"{name}, severity {severity}: {percent(value)}" for severity, value in zip(severities, values, strict=True)]
        for name, values in ranked
    ]
    top = corruptions.clean if math.isfinite(corruptions.clean) else max(every, default=1.0)
    chart = heat_map([values for _, values in ranked], [name.replace("_", " ") for name, _ in ranked], severities, told,
                     span=(0.0, top), column_title="severity")  # fmt: skip
    clean = f", {percent(corruptions.clean)} on clean ones" if math.isfinite(corruptions.clean) else ""
    mean = f"{percent(statistics.fmean(every))} over all{clean}" if every else "nothing finite"
    return Figure(title="Accuracy on damaged images", caption=f"{mean}; the head was fitted to clean ones", chart=chart)


def _spectrum(measures: Tree) -> list[Figure]:
    drawn = []
    for name, values in spectrum(measures).values.items():
        title, caption = SPECTRUM[name]
        line = Line(name="", x=[*range(1, len(values) + 1)], y=values, color="--encoder", named=False)
        if len(values) > 1 and (chart := line_chart([line], Axes(x_title="block", whole_x=True))):
            drawn.append(Figure(title=title, caption=caption, chart=chart))
    return drawn
