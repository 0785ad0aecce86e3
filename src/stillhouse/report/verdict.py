"""Key figures and the judgement in words: what was learned, and how surely."""

import math
import statistics
from dataclasses import dataclass

from stillhouse.report.charts import finite
from stillhouse.report.evaluated import Result
from stillhouse.report.facts import RunFacts
from stillhouse.report.wording import SPACE, duration, percent, points, sentence


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One key figure; `note` says what it was measured on or against."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Scores:
    """k-NN results of the evaluation that the headline needs; each baseline holds none or one result."""

    best: Result
    last: Result
    untrained: tuple[Result, ...]
    pixels: tuple[Result, ...]


def knn_scores(run: RunFacts) -> tuple[Scores, ...]:
    """Scores under the first k-NN protocol of the evaluation; none if it was not measured."""
    protocols = [name for name in run.evaluation.protocols if name.startswith("knn")]
    for protocol in protocols:
        if encoder := run.evaluation.of(protocol, "encoder"):
            return (
                Scores(
                    best=run.evaluation.best(protocol, "encoder")[0],
                    last=encoder[-1],
                    untrained=run.evaluation.best(protocol, "untrained"),
                    pixels=run.evaluation.of(protocol, "pixels")[:1],
                ),
            )
    return ()


def tiles(run: RunFacts) -> list[Tile]:
    """Key figures in reading order; what was not measured has no tile."""
    return [*_classifier_tiles(run), *_accuracy_tiles(run), *_speed_tiles(run)]


def judgement(run: RunFacts) -> str:
    """What was learned so far, in a sentence or two; empty where nothing was measured against labels."""
    if lost := [line.step for line in run.steps if not math.isfinite(line.loss)]:
        return f"The loss is not finite at step {lost[0]:,}: numbers from there on mean nothing."
    for scores in knn_scores(run):
        return _judged(run, scores)
    if run.knn and finite(run.knn[-1].blocks):
        line = run.knn[-1]
        best = _best_block(line.blocks)
        time = f"After {line.epoch:.3g} epochs" if math.isfinite(line.epoch) else f"After {line.step:,} steps"
        return (
            f"{time} block {best + 1} of {len(line.blocks)} is the best layer, "
            f"with {percent(line.blocks[best])} k-NN accuracy. Baselines come with the evaluation."
        )
    return ""


def health_sentence(run: RunFacts) -> str:
    """The latest judgement of the training loop on its embeddings."""
    spoken = [line.sentence for line in run.health if line.sentence]
    return sentence(spoken[-1] if spoken else "health was not measured yet")


def labels_sentence(run: RunFacts) -> str:
    """Why no accuracy is shown; empty where it is."""
    if run.has_accuracy:
        return ""
    if run.labels_hidden:
        return "This run saw no labels, so no accuracy is shown."
    if run.evaluation.notes:
        return sentence(run.evaluation.notes[0])
    return "Nothing was measured against labels, so no accuracy is shown."


def progress(run: RunFacts) -> str:
    """How far training got."""
    shares = finite(line.progress for line in run.steps)[-1:]
    return "".join(
        "training complete" if share >= 1 else f"{100 * share:.0f}{SPACE}% of training done" for share in shares
    )


def _classifier_tiles(run: RunFacts) -> list[Tile]:
    return [_tile("Classifier", result) for result in run.evaluation.of("classifier", "encoder")]


def _accuracy_tiles(run: RunFacts) -> list[Tile]:
    for scores in knn_scores(run):
        gains = [
            Tile(
                label=f"Gain over {name}",
                value=points(scores.best.accuracy - base.accuracy),
                note=f"points against {at}",
            )
            for name, bases in (("raw pixels", scores.pixels), ("untrained", scores.untrained))
            for base in bases
            for at in [percent(base.accuracy) + (f" at block {base.block}" if base.block else "")]
        ]
        return [_tile("Best layer, k-NN", scores.best), _tile("Last layer, k-NN", scores.last), *gains]
    if not run.knn or not finite(run.knn[-1].blocks):
        return []
    line = run.knn[-1]
    best = _best_block(line.blocks)
    note = "while training" + (f", {line.queries:,} images" if line.queries else "")
    return [
        Tile(label="Best layer, k-NN", value=percent(line.blocks[best]), note=f"block {best + 1}, {note}"),
        Tile(label="Last layer, k-NN", value=percent(line.blocks[-1]), note=f"block {len(line.blocks)}, {note}"),
    ]


def _tile(label: str, result: Result) -> Tile:
    low, high = result.bounds
    ends = f", {100 * low:.1f}\u2013{100 * high:.1f}" if result.has_interval else ""
    return Tile(label=label, value=percent(result.accuracy), note=f"block {result.block}{ends}")


def _speed_tiles(run: RunFacts) -> list[Tile]:
    found = []
    if rates := finite(line.images_per_second for line in run.steps):
        waiting = finite(line.data_share for line in run.steps)
        note = f"median; {100 * statistics.mean(waiting):.0f}{SPACE}% waiting for data" if waiting else "median"
        found.append(Tile(label="Images per second", value=f"{statistics.median(rates):,.0f}", note=note))
    if times := finite(line.seconds for line in run.steps):
        evaluating = run.evaluation.seconds
        note = f"and {duration(evaluating)} evaluating" if math.isfinite(evaluating) else "so far"
        found.append(Tile(label="Training time", value=duration(times[-1]), note=note))
    return found


def _judged(run: RunFacts, scores: Scores) -> str:
    best = scores.best
    bases = [("raw pixels", base) for base in scores.pixels]
    bases += [("an untrained encoder", base) for base in scores.untrained]
    standing: dict[str, list[str]] = {}
    for name, base in bases:
        standing.setdefault(_compared(best, base), []).append(name)
    place = f"Block {best.block} of {run.blocks} is the best layer, with {percent(best.accuracy)} k-NN accuracy"
    stands = "".join(f", {words} {' and '.join(names)}" for words, names in standing.items())
    return f"{place}{stands}. {_last_layer(best, scores.last)}"


def _compared(result: Result, base: Result) -> str:
    """How a result stands to a baseline, by their intervals."""
    if result.bounds[0] > base.bounds[1]:
        return "clearly above"
    return "clearly below" if result.bounds[1] < base.bounds[0] else "within the noise of"


def _last_layer(best: Result, last: Result) -> str:
    if best.block == last.block:
        return "It is also the last layer, so nothing is gained by an earlier exit."
    behind = round(100 * (best.accuracy - last.accuracy), 1)
    if behind <= 0:
        return "On these images the last layer is as good."
    is_sure = best.bounds[0] > last.bounds[1]
    surely = f"so an exit at block {best.block} is worth its while" if is_sure else "within the noise"
    return f"The last layer is {behind:.1f} points behind, {surely}."


def _best_block(accuracies: tuple[float, ...]) -> int:
    return max(
        range(len(accuracies)), key=lambda block: accuracies[block] if math.isfinite(accuracies[block]) else -1.0
    )
