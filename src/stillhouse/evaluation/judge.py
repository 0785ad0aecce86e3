"""The whole evaluation: k-NN and linear probe at every depth, beside an untrained encoder and raw pixels.

Letters: N training images, M test images, D width.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillhouse.data.store import ImageStore
from stillhouse.evaluation.alignment import Alignment, align, alignment_views, pairs_of, read
from stillhouse.evaluation.baselines import Pixels
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.correspondence import Correspondence, correspondence, grid_side
from stillhouse.evaluation.features import LayerFeatures, extract
from stillhouse.evaluation.intervals import wilson
from stillhouse.evaluation.knn import classify
from stillhouse.evaluation.lessons import Lesson, lessons
from stillhouse.evaluation.linear import HELD_OUT, fit_probe
from stillhouse.evaluation.overlap import count_shared
from stillhouse.evaluation.protocols import Material, Values, measure
from stillhouse.evaluation.recognition import recognition
from stillhouse.evaluation.results import Evaluation, Result, Sources, best_of
from stillhouse.evaluation.split import hold_out, thin
from stillhouse.evaluation.task import Task, find_task
from stillhouse.evaluation.verdict import PIXELS, UNTRAINED, judge
from stillhouse.health import Health, examine
from stillhouse.networks.classifier import Classifier
from stillhouse.networks.encoder import Encoder, device_of, undisturbed

HEALTH_IMAGES = 10_000
BASELINES = {"untrained": UNTRAINED, "pixels": PIXELS}
"""Subjects that a verdict compares with, in words."""

Progress = Callable[[str, float], None]
"""Told what is going on and which share of all is done."""


def evaluate(
    encoder: Encoder,
    train: ImageStore,
    test: ImageStore,
    *,
    untrained: Encoder | None = None,
    classifier: Classifier | None = None,
    config: EvaluationConfig = EvaluationConfig(),  # noqa: B008 (frozen)
    sources: Sources = Sources(),  # noqa: B008 (frozen)
    progress: Progress = lambda text, share: None,
) -> Evaluation:
    """Judge an encoder by images it is shown once.

    Without labels in either set there are no accuracies, only what needs no labels: health and alignment. Images
    without a label are left out. Nothing is chosen by the test images.

    Args:
        encoder: network to judge, on any device; left as it was found.
        train: images to search and to fit to. The same object as `test` gives a seeded split, four fifths to one.
        test: images to be asked about.
        untrained: a fresh encoder of the same kind, to know what training gained.
        classifier: what was trained on the encoder to name classes; asked as it is, it learns nothing here.
        config: settings.
        sources: names for the file.
        progress: told what is going on.

    Raises:
        SettingsError: regions are to be matched, and the encoder has no grid of them.
        DataError: a test class has no training image.
        TrainingError: an encoder gives values that are not finite.
    """
    started = time.perf_counter()
    if config.correspondence_images:
        grid_side(encoder)  # what cannot be measured is told at once
    task = find_task(train, test, config.seed)
    told = () if task.obstacle or not config.linear else lessons(task.train_labels, len(task.classes), config)
    asked = thin(torch.arange(len(test)), HEALTH_IMAGES) if task.obstacle else task.test_rows
    subjects = [("encoder", encoder)] if task.obstacle else _subjects(encoder, untrained, config)
    can_ask = classifier is not None and not {*classifier.classes}.isdisjoint(task.classes)
    results: list[Result] = []
    health: tuple[Health, ...] = ()
    protocols: dict[str, Values] = {}
    for number, (name, network) in enumerate(subjects):
        court = _Court(name, network, config, _part(progress, number, len(subjects)))
        queries = court.read(test, asked, 0.0, 0.1)
        if name == "encoder":
            health = tuple(examine(thin(block, HEALTH_IMAGES)) for block in queries.blocks)
        bank = LayerFeatures((), task.train_labels[:0], task.train_rows[:0])
        if not task.obstacle:
            if classifier is not None and can_ask and name == "encoder":
                results.append(court.ask(classifier, queries, task))
            bank = court.read(train, task.train_rows, 0.1, 0.5)
            results += court.judge(bank, queries, task, told)
        if name == "encoder":
            protocols = measure(court.material(test, bank, queries, task, results))
    shared = 0 if task.obstacle else count_shared(train, task.train_rows, test, task.test_rows)
    alignment, recognised = _two_views(_subjects(encoder, untrained, config), test, config)
    matched = _correspondence(encoder, untrained, test, config)
    return Evaluation(
        sources=sources,
        train_images=len(task.train_rows),
        test_images=len(task.test_rows),
        classes=task.classes,
        block_dims=tuple(encoder.block_dims),
        results=tuple(results),
        health=health,
        alignment_images=min(config.alignment_images, len(test)) if alignment else 0,
        alignment=alignment,
        verdict=judge(
            health[-1], recognised.pop("encoder"), {BASELINES[name]: one for name, one in recognised.items()}
        ),
        protocols=protocols,
        correspondence=matched,
        notes=_notes(
            task, results, shared, matched, stranger=classifier is not None and not (can_ask or task.obstacle)
        ),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Court:
    """Everything about one subject."""

    name: str
    encoder: Encoder
    config: EvaluationConfig
    progress: Progress

    def read(self, store: ImageStore, rows: Tensor, begin: float, end: float) -> LayerFeatures:
        """Vectors of every block, from one pass."""
        return extract(
            self.encoder, store, rows, batch_size=self.config.batch_size, bf16=self.config.bf16,
            progress=lambda share: self.progress(f"{self.name}: reading images", begin + share * (end - begin)),
        )  # fmt: skip

    def judge(self, bank: LayerFeatures, queries: LayerFeatures, task: Task, told: tuple[Lesson, ...]) -> list[Result]:
        """k-NN and a linear probe for each lesson, of every block; and of the last blocks joined, where asked for."""
        results = []
        count, device = len(bank.blocks), bank.labels.device
        labels = task.train_labels[bank.kept].to(device)
        truth = task.test_labels[queries.kept].to(device)
        told = tuple(lesson.of(bank.kept, device) for lesson in told)
        for place, (known, asked) in enumerate(zip(bank.blocks, queries.blocks, strict=True)):
            block = 0 if self.name == "pixels" else place + 1
            self.progress(f"{self.name}: block {place + 1} of {count}", 0.5 + 0.5 * place / count)
            results += self._examine(block, known, asked, labels, told, truth, len(task.classes))
        joined = min(self.config.last_blocks, count)
        if joined > 1:
            known, asked = (torch.cat(vectors.blocks[-joined:], dim=1) for vectors in (bank, queries))
            together = self._examine(count, known, asked, labels, told, truth, len(task.classes))
            results += [replace(result, protocol=f"last{joined}:{result.protocol}") for result in together]
        self.progress(f"{self.name}: done", 1.0)
        return results

    def material(
        self, test: ImageStore, bank: LayerFeatures, queries: LayerFeatures, task: Task, results: list[Result]
    ) -> Material:
        """What further protocols may look at."""
        judged = [result for result in results if result.protocol.startswith("knn")]
        device, labelled = queries.labels.device, bool(judged)
        return Material(
            encoder=self.encoder,
            test=test,
            config=self.config,
            asked=queries.blocks,
            truth=task.test_labels[queries.kept].to(device) if labelled else queries.labels[:0],
            known=bank.blocks,
            labels=task.train_labels[bank.kept].to(device),
            classes=task.classes,
            block=best_of(judged).block if judged else 0,
        )

    def ask(self, classifier: Classifier, queries: LayerFeatures, task: Task) -> Result:
        """What the classifier says of the last block, the one it stands on; a class it does not know is missed."""
        number = {name: place for place, name in enumerate(task.classes)}
        numbers = torch.tensor([number.get(name, -1) for name in classifier.classes])
        with undisturbed(classifier):
            answers = numbers[classifier.score(queries.blocks[-1]).argmax(1).cpu()]
        truth = task.test_labels[queries.kept]
        return self._result(len(queries.blocks), "classifier", answers, truth, float("nan"), {})

    def _examine(
        self,
        block: int,
        bank: Tensor,
        queries: Tensor,
        labels: Tensor,
        told: tuple[Lesson, ...],
        truth: Tensor,
        num_classes: int,
    ) -> list[Result]:
        probes = [self._linear(block, bank, queries, lesson, truth, num_classes) for lesson in told]
        return [self._knn(block, bank, queries, labels, truth), *probes]

    def _knn(self, block: int, bank: Tensor, queries: Tensor, labels: Tensor, truth: Tensor) -> Result:
        k, temperature = self.config.k, self.config.temperature
        answers = classify(queries, bank, labels, k=k, temperature=temperature)
        held = thin(hold_out(labels, HELD_OUT, self.config.seed)[1], self.config.query_size)
        held_out = float("nan")
        if len(held):
            guessed = classify(bank[held], bank, labels, k=k, temperature=temperature, exclude=held)
            held_out = (guessed == labels[held]).double().mean().item()
        return self._result(block, f"knn(k={k},T={temperature:g})", answers, truth, held_out, {"bank": len(bank)})

    def _linear(
        self, block: int, bank: Tensor, queries: Tensor, lesson: Lesson, truth: Tensor, num_classes: int
    ) -> Result:
        config = self.config
        probe = fit_probe(
            bank if lesson.shown.all() else bank[lesson.shown], lesson.labels[lesson.shown], num_classes,
            protocol=config.linear_protocol, standardize=config.standardize, seed=config.seed,
        )  # fmt: skip
        settings = {probe.setting: probe.value, "standardize": config.standardize, "at_edge": probe.at_edge}
        name = f"linear({config.linear_protocol}{', ' * bool(lesson.name)}{lesson.name})"
        if lesson.name:
            settings["images"] = int(lesson.shown.sum())
        return self._result(block, name, probe.classify(queries), truth, probe.held_out, settings, lesson.name)

    def _result(
        self,
        block: int,
        protocol: str,
        answers: Tensor,
        truth: Tensor,
        held_out: float,
        settings: dict[str, float | bool],
        labels: str = "",
    ) -> Result:
        right = int((answers == truth).sum())
        return Result(
            subject=self.name,
            block=block,
            protocol=protocol,
            accuracy=right / len(answers),
            interval=wilson(right, len(answers)),
            held_out=held_out,
            settings=settings,
            labels=labels,
        )


def _subjects(encoder: Encoder, untrained: Encoder | None, config: EvaluationConfig) -> list[tuple[str, Encoder]]:
    subjects = [("encoder", encoder)]
    if untrained is not None and config.untrained:
        subjects.append(("untrained", untrained))
    if config.pixels:
        subjects.append(("pixels", Pixels(encoder.image_size).to(device_of(encoder))))
    return subjects


def _part(progress: Progress, number: int, count: int) -> Progress:
    """Progress of one of `count` equal parts of the whole."""
    return lambda text, share: progress(text, (number + share) / count)


def _two_views(
    subjects: list[tuple[str, Encoder]], test: ImageStore, config: EvaluationConfig
) -> tuple[tuple[Alignment, ...], dict[str, Tensor]]:
    """Alignment of the encoder, the first subject, at every depth; how surely each subject's last block recognises."""
    if min(config.alignment_images, len(test)) < 2:
        return (), {"encoder": torch.empty(0)}
    alignment, recognised = tuple[Alignment, ...](), dict[str, Tensor]()
    for name, network in subjects:
        size = network.image_size
        pairs = pairs_of(test, alignment_views(size), size, images=config.alignment_images, seed=config.seed)
        first, second = read(network, pairs)
        alignment = alignment or tuple(map(align, first, second))
        recognised[name] = recognition(first[-1], second[-1])
    return alignment, recognised


def _correspondence(
    encoder: Encoder, untrained: Encoder | None, test: ImageStore, config: EvaluationConfig
) -> dict[str, Correspondence]:
    if not config.correspondence_images:
        return {}
    return {
        name: correspondence(
            network, test, images=config.correspondence_images, seed=config.seed, batch_size=config.batch_size
        )
        for name, network in _subjects(encoder, untrained, replace(config, pixels=False))
    }


def _notes(
    task: Task,
    results: list[Result],
    shared: int,
    matched: Mapping[str, Correspondence],
    *,
    stranger: bool,
) -> tuple[str, ...]:
    unasked = "the run's classifier knows none of these classes by name, so it was not asked"
    leak = f"{shared} of {len(task.test_rows)} test images are training images, too, so accuracies are too high"
    found_at = [r for r in results if r.settings.get("at_edge")]
    edges = [f"{r.subject} block {r.block}{f' ({r.labels})' * bool(r.labels)}" for r in found_at]
    edge = f"the linear probe's choice lies at the edge of its grid for {', '.join(dict.fromkeys(edges))}"
    places = [f"regions of the {name} in changed copies: {found.sentence}" for name, found in matched.items()]
    told = (
        task.obstacle,
        leak if shared else "",
        edge if edges else "",
        unasked if stranger else "",
        *places,
    )
    return tuple(note for note in told if note)
