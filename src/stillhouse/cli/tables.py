"""Tables for the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from stillhouse.config import to_toml
from stillhouse.evaluation.results import Evaluation, Result
from stillhouse.export.exporting import Exported
from stillhouse.methods.table import METHODS, SUM
from stillhouse.recipes.benching import Benched
from stillhouse.recipes.recipe import find_recipe, shipped_recipes


def methods_table() -> None:
    """Print every method."""
    table = Table("method", "in a line", "source", box=None)
    for name, entry in METHODS.items():
        table.add_row(name, entry.summary, entry.source)
    table.add_row(SUM, "several of these over one encoder, weighted", "see the recipe sdssl-mocov3-seed")
    Console().print(table)


def recipes_table() -> None:
    """Print every shipped recipe."""
    table = Table("recipe", "method", "in a line", "what it reached", box=None)
    for name, recipe in shipped_recipes().items():
        about = recipe.get("about", {})
        method = recipe["method"]
        table.add_row(
            name,
            " + ".join(method.get("methods", [method["name"]])),
            about.get("summary", ""),
            about.get("expected", ""),
        )
    Console().print(table)


def export_table(exported: Exported) -> None:
    """Print how close every output is to the live encoder."""
    count = exported.agreements[0].images
    title = f"beside the live encoder, on {count} images ({exported.images})"
    table = Table(
        "output", "largest difference", "cosine", "same nearest neighbour", box=None, title=title, title_justify="left"
    )
    for agreement in exported.agreements:
        cosine, same = f"{agreement.cosine:.7f}", f"{agreement.neighbours:.1%}"
        table.add_row(agreement.name, f"{agreement.max_difference:.2g}", cosine, same)
    Console().print(table)


def bench_table(rows: Sequence[Benched]) -> None:
    """Print a row per network: milliseconds of a batch of 1 and of 32 (median, 90th percentile), MB, accuracy."""
    heads = ["format", "outputs", "1 image: ms", "p90", "32 images: ms", "p90", "peak MB", "file MB", "k-NN %"]
    table = Table(Column("network", overflow="fold"), *heads, box=None)
    for row in rows:
        cost = row.cost
        times = [f"{cost.milliseconds[size][kind]:.2f}" for size in ("1", "32") for kind in ("median", "p90")]
        kind = f"{cost.format} {cost.precision}".strip()
        sizes = [f"{number / 1e6:.1f}" for number in (cost.peak_bytes, cost.size_bytes)]
        accuracies = " ".join(f"{100 * accuracy:.2f}" for accuracy in row.accuracy.values())
        table.add_row(cost.path, kind, " ".join(cost.outputs), *times, *sizes, accuracies)
    Console().print(table)


def show_recipe(name: str) -> None:
    """Print one recipe as TOML."""
    Console().print(to_toml(find_recipe(name)), markup=False, highlight=False, soft_wrap=True)


def evaluation_table(evaluation: Evaluation) -> None:
    """Print a row per block, and one for the last blocks joined; then what other labels than all as they are gave."""
    results = [result for result in evaluation.results if not result.labels]
    placed = {(_row(result), result.subject, _plain(result)): f"{100 * result.accuracy:.2f}" for result in results}
    columns = sorted({(result.subject, _plain(result)) for result in results}, key=_column_order)
    protocols = ", ".join(sorted({protocol for _, protocol in columns}))
    title = f"accuracy in %: {protocols}; {evaluation.test_images:,} images, {evaluation.train_images:,} learnt from"
    heads = [f"{subject}\n{protocol.partition('(')[0]}" for subject, protocol in columns]
    table = Table("block", *heads, box=None, title=title, title_justify="left")
    for row in sorted({_row(result) for result in results}):
        name = row[0] or ("pixels" if row[1] == 0 else str(row[1]))
        table.add_row(name, *(placed.get((row, *column), "") for column in columns))
    if results:
        Console().print(table)
    if len(results) < len(evaluation.results):
        Console().print(_labels_table(evaluation))
    told = [*_also(evaluation), f"verdict: {evaluation.verdict.sentence}"]
    for line in [*told, *(f"note: {note}" for note in evaluation.notes)]:
        Console().print(line, markup=False, highlight=False, soft_wrap=True)


def _also(evaluation: Evaluation) -> list[str]:
    """What the full suite measured, a line each."""
    lines, found = [], evaluation.protocols
    if "spectrum" in found:
        values = found["spectrum"]
        seen = f"LiDAR {values['lidar']:.1f}" if "lidar" in values else "too few images for LiDAR"
        law = f"alpha {values['alpha'][-1]:.2f} (fit {values['alpha_fit'][-1]:.2f})"
        lines.append(f"spectrum of the last block: RankMe {values['rankme'][-1]:.1f}, {law}, {seen}")
    if "cka" in found:
        likeness = found["cka"]["blocks"]
        steps = " ".join(f"{row[number + 1]:.2f}" for number, row in enumerate(likeness[:-1]))
        lines.append(f"likeness (CKA) of each block with the next: {steps}" if steps else "one block, like itself")
    for each in found.get("retrieval", {}).get("blocks", ()):
        recall = ", ".join(
            f"{100 * share:.1f} % among {first}" for share, first in zip(each["recall"], (1, 5, 10), strict=True)
        )
        lines.append(f"search by block {each['block']}: {recall}; mAP {100 * each['mean_average_precision']:.1f} %")
    return lines


def _labels_table(evaluation: Evaluation) -> Table:
    """A row per subject and block, a column for each kind of labels that a linear probe was told."""
    results = [result for result in evaluation.results if _plain(result).startswith("linear")]
    kinds = list(dict.fromkeys(result.labels for result in results))
    heads = [kind or "all labels" for kind in kinds]
    title = "accuracy in %: linear probe told few or wrong labels"
    table = Table(Column("subject", no_wrap=True), "block", *heads, box=None, title=title, title_justify="left")
    for subject, row in dict.fromkeys((result.subject, _row(result)) for result in results):
        found = {r.labels: f"{100 * r.accuracy:.2f}" for r in results if (r.subject, _row(r)) == (subject, row)}
        table.add_row(subject, row[0] or str(row[1] or ""), *(found[kind] for kind in kinds))
    return table


def _column_order(column: tuple[str, str]) -> tuple[int, str]:
    return ("encoder", "untrained", "pixels").index(column[0]), column[1]


def _row(result: Result) -> tuple[str, int]:
    """What was joined, if anything was, and the block."""
    return result.protocol.rpartition(":")[0], result.block


def _plain(result: Result) -> str:
    """The protocol without what was joined."""
    return result.protocol.rpartition(":")[2]
