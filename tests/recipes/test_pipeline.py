"""SimCLRv2 from images to a student: stages that end, stop, go on and refuse."""

import json
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import stillhouse
from stillhouse.data.augment import center_view
from stillhouse.data.labels import balanced_subset
from stillhouse.data.store import DataConfig, open_store
from stillhouse.errors import Interrupted, RunError, SettingsError
from stillhouse.networks.classifier import load_classifier
from stillhouse.recipes.judging import evaluate_run
from stillhouse.recipes.pipeline import plan, run_pipeline
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.run import as_wanted, resume, train
from stillhouse.training.checkpoint import read_checkpoint
from stillhouse.training.journal import Listener
from stillhouse.training.settings import TrainingConfig
from tests.recipes.conftest import TrainTiny
from tests.recipes.test_run import CrashError, DiesAt, records, weights
from tests.teachers import save_teacher_of_classes

EVERY = {
    "training.batch_size": 16,
    "training.log_steps": 1,
    "training.health_steps": 0,
    "training.checkpoint_steps": 1,
    "training.optimizer": "adamw",
    "training.learning_rate": 1e-2,
    "training.warmup_epochs": 0,
    "evaluation.every": 0,
}
SETTINGS: dict[str, Any] = {
    "data.limit": 64,
    **{f"{stage}.{name}": value for stage in ("pretrain", "finetune", "distill") for name, value in EVERY.items()},
    "pretrain.encoder.name": "vit_nano",
    "pretrain.training.epochs": 1,
    "finetune.training.steps": 5,
    "distill.encoder.name": "vit_nano",
    "distill.training.epochs": 1,
    "distill.method.label_weight": 0.5,
}


class Watch:
    """Notes which stages train; takes one of them down at a step."""

    def __init__(self, stage: str = "", listener: Listener | None = None) -> None:
        self.stage, self.listener, self.trained = stage, listener, list[str]()

    def __call__(self, stage: str) -> Sequence[Listener]:
        heard = _Starts(self, stage)
        return [heard, self.listener] if self.listener and stage == self.stage else [heard]


class _Starts:
    def __init__(self, watch: Watch, stage: str) -> None:
        self.watch, self.stage = watch, stage

    def hear(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "start":
            self.watch.trained.append(self.stage)

    def close(self) -> None:
        """Nothing is open."""


class Asks(DiesAt):
    """A signal in place of a crash."""

    def hear(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "step" and record["step"] == self.step:
            signal.raise_signal(signal.SIGINT)


def run_tiny(out: Path, watch: Watch | None = None, **settings: Any) -> stillhouse.Run:
    wanted = SETTINGS | {name.replace("__", "."): value for name, value in settings.items()}
    return run_pipeline("simclrv2", "digits#train", out, "20", wanted, watch or Watch())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that was never stopped."""
    folder = tmp_path_factory.mktemp("pipeline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLHOUSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        run_tiny(folder / "out")
    return folder / "out"


def test_three_runs_one_from_the_other(whole: Path) -> None:
    runs = {name: stillhouse.Run(whole / name) for name in ("pretrain", "finetune", "distill")}
    recipes = {name: run.read_recipe() for name, run in runs.items()}
    assert recipes["finetune"].start.source == str(whole / "pretrain")
    assert recipes["finetune"].encoder == recipes["pretrain"].encoder
    assert recipes["distill"].teacher.source == str(whole / "finetune")
    assert not runs["pretrain"].classifier_folder.exists()
    assert runs["finetune"].load_classifier().head[0].out_features == 64
    assert not list(runs["distill"].load_classifier().head)
    card = json.loads((runs["finetune"].encoder_folder / "card.json").read_text())
    assert card["start"] == {"source": str(whole / "pretrain"), "sha256": recipes["finetune"].start.digest}
    assert "with labels" in (runs["finetune"].encoder_folder / "README.md").read_text()
    assert [record["step"] for record in records(runs["finetune"], "step")] == [1, 2, 3, 4, 5]
    assert recipes["finetune"].training.epochs == 5  # 20 known labels make one step of 16


def test_only_the_balanced_subset_is_known(whole: Path) -> None:
    labels = open_store("digits#train", DataConfig(limit=64), 16).labels
    expected = balanced_subset(labels, 20, 0)
    assert torch.bincount(labels[expected], minlength=10).tolist() == [2] * 10
    for stage in ("finetune", "distill"):
        assert stillhouse.Run(whole / stage).read_recipe().data.labelled == "20"
    planned = plan("simclrv2", "digits#train", whole, "20", SETTINGS)[1]
    with torch.random.fork_rng():
        rows = prepare(planned.wanted()).method.rows
    assert rows is not None
    assert torch.equal(rows, expected)


def test_fine_tuning_begins_where_pretraining_ended(whole: Path, tmp_path: Path) -> None:
    untouched = {"training.learning_rate": 1e-30, "training.steps": 1, "data.labelled": "20", "data.limit": 64}
    run = train(
        "simclrv2-finetune",
        "digits#train",
        tmp_path / "run",
        EVERY | untouched | {"start.source": str(whole / "pretrain")},
    )
    then, now = weights(stillhouse.Run(whole / "pretrain")), weights(run)
    assert torch.equal(then["student.projector.0.weight"], now["student.head.0.weight"])
    for name, value in now.items():
        if name.startswith("student.encoder.") and value.is_floating_point():
            torch.testing.assert_close(value, then[name], msg=name)


def test_every_stage_may_die_or_be_stopped_and_the_same_command_ends_it_to_the_bit(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for stage, listener, error in (
        ("pretrain", DiesAt(3), CrashError),
        ("finetune", Asks(2), Interrupted),
        ("distill", DiesAt(3), CrashError),
    ):
        with pytest.raises(error) as stopped:
            run_tiny(out, Watch(stage, listener))
        if error is Interrupted:
            told = "finetune: training: stopped by SIGINT after step 2; saved; go on with the same command"
            assert str(stopped.value) == told
    watch = Watch()
    last = run_tiny(out, watch)
    assert watch.trained == ["distill"]
    for stage in ("pretrain", "finetune", "distill"):
        before, after = weights(stillhouse.Run(whole / stage)), weights(stillhouse.Run(out / stage))
        assert all(torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True)), stage
    images = torch.rand(3, 3, 16, 16)
    assert torch.equal(last.load_classifier()(images), load_classifier(whole / "distill")(images))


def test_a_finished_pipeline_is_left_alone_and_a_changed_setting_refused(whole: Path) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}

    before, watch = files(), Watch()
    run_tiny(whole, watch)
    assert not watch.trained
    with pytest.raises(RunError, match=r"finetune was begun with other settings \(training.learning_rate: 0.01 became"):
        run_tiny(whole, finetune__training__learning_rate=0.02)
    with pytest.raises(RunError, match=r"pretrain was begun with other settings \(data.limit: 64 became 60"):
        run_tiny(whole, data__limit=60)
    assert files() == before


def test_what_was_trained_but_not_yet_written_is_written(whole: Path) -> None:
    card = whole / "distill/classifier/card.json"
    text = card.read_text()
    card.write_text(text.replace('"steps": 4', '"steps": 2'))
    watch = Watch()
    run_tiny(whole, watch)
    assert watch.trained == ["distill"]
    assert card.read_text() == text
    for damage in ("", "{bad", "[]"):
        card.write_text(damage)
        run_tiny(whole)
        assert card.read_text() == text
    card.unlink()
    run_tiny(whole)
    assert card.read_text() == text


def test_the_classifier_is_judged_on_all_test_labels(whole: Path) -> None:
    quick = {"evaluation.linear": False, "evaluation.alignment_images": 0, "evaluation.atlas_images": 0}
    found = evaluate_run(
        whole / "finetune", "digits#test", settings=quick | {"evaluation.pixels": False, "evaluation.untrained": False}
    )
    assert found.train_images == 64
    (result,) = found.of("encoder", "classifier")
    store = open_store("digits#test", DataConfig(), 16)
    assert len(store) == found.test_images
    classifier = load_classifier(whole / "finetune")
    with torch.no_grad():
        answers = classifier(center_view(store.gather(torch.arange(len(store))), 16)).argmax(1)
    assert result.accuracy == pytest.approx((answers == store.labels).double().mean().item())
    written = json.loads((whole / "finetune/evaluation.json").read_text())["results"]
    assert written[0]["protocol"] == "classifier"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"method.head_layer": 1}, r"start.source: none named, and method.head_layer keeps 1 layers"),
        ({"start.source": "nowhere"}, r"start.source: .*nowhere/checkpoints/last.pt: no checkpoint found"),
        ({"start.source": "nowhere", "method.head_layer": 0}, r"start.source: .*no encoder found"),
        ({"start.source": "{whole}/pretrain", "method.head_layer": 3}, r"method.head_layer: 3, but .* 2 hidden layers"),
        ({"start.source": "{whole}/finetune"}, r"was trained by simclrv2-finetune, which has no projection head"),
        (
            {"start.source": "{whole}/pretrain", "encoder.name": "resnet10"},
            r"encoder.name: 'resnet10', but .*'vit_nano'",
        ),
        ({"start.source": "{whole}/pretrain", "start.digest": "0"}, r"start.source: the weights of .* changed since"),
        ({"method.head_layer": 0, "data.labels": False}, r"data.labelled: 20 of the labels .* digits#train has none"),
        (
            {"method.head_layer": 0, "data.labels": False, "data.labelled": ""},
            r"method.name: simclrv2-finetune learns from labels, and 0 classes",
        ),
        (
            {"method.head_layer": 0, "data.labelled": 9},
            r"data.labelled: 9 of 64 labels for 10 classes",
        ),
        ({"method.head_layer": 0, "data.labelled": "200%"}, r"data.labelled: 128 of 64 labels for 10 classes"),
        ({"method.head_layer": 0, "training.epochs": 3}, r"training.epochs: 3, but training.steps is 5; leave one"),
    ],
)
def test_mistakes_in_fine_tuning_are_told_before_anything_is_written(
    settings: dict[str, Any], told: str, whole: Path, tmp_path: Path
) -> None:
    named = {key: value.format(whole=whole) if isinstance(value, str) else value for key, value in settings.items()}
    with pytest.raises(SettingsError, match=told):
        train(
            "simclrv2-finetune",
            "digits#train",
            tmp_path / "run",
            EVERY | {"data.limit": 64, "data.labelled": "20", "training.steps": 5} | named,
        )
    assert not (tmp_path / "run").exists()


def test_mistakes_in_distillation_are_told(whole: Path, tmp_path: Path) -> None:
    base = EVERY | {"data.limit": 64, "training.epochs": 1, "encoder.name": "vit_nano"}
    beasts = save_teacher_of_classes(tmp_path / "beasts", ("gnu", "emu"))
    for settings, told in (
        ({}, "teacher.source: none named, and this method needs one"),
        ({"teacher.source": str(whole / "pretrain")}, "teacher.source: it has no classifier"),
        ({"teacher.source": str(beasts), "method.label_weight": 0.5}, "10 classes of the images are unknown to it"),
        ({"teacher.source": str(beasts), "teacher.weights": "w.pt"}, "brings its own weights"),
    ):
        with pytest.raises(SettingsError, match=told):
            train("simclrv2-distill", "digits#train", tmp_path / "run", base | settings)
    unlabelled = {"teacher.source": str(beasts), "data.labels": False}
    run = train("simclrv2-distill", "digits#train", tmp_path / "run", base | unlabelled)
    assert run.load_classifier().classes == ("gnu", "emu")


def test_mistakes_in_a_pipeline_are_told_before_it_begins(tmp_path: Path) -> None:
    for name, settings, told in (
        ("simclr2", {}, "did you mean simclrv2"),
        ("simclrv2", {"training.epochs": 3}, "write pretrain.training.epochs"),
        ("simclrv2", {"distill": 3}, "not a setting of a stage"),
        ("simclrv2", {"distill.training.epoch": 3}, "did you mean training.epochs"),
        ("simclrv2", {"data.labels": False}, "shows labels of fewer than two classes"),
    ):
        with pytest.raises(SettingsError, match=told):
            plan(name, "digits#train", tmp_path / "out", "1%", settings)
    assert not (tmp_path / "out").exists()


def test_labels_that_changed_are_other_data(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(12):
        path = tmp_path / f"photos/{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (20 * number, 0, 0)).save(path)
    named = {"encoder.name": "vit_nano", "method.head_layer": 0}
    settings = EVERY | named | {"training.batch_size": 4, "training.steps": 4}
    photos = str(tmp_path / "photos")
    with pytest.raises(CrashError):
        train("simclrv2-finetune", photos, tmp_path / "run", settings, [DiesAt(3)])
    assert read_checkpoint(tmp_path / "run/checkpoints/last.pt")["progress"]["step"] == 2
    (tmp_path / "photos/a/0.png").rename(tmp_path / "photos/b/0.png")
    with pytest.raises(RunError, match="the images changed since the run began"):
        resume(tmp_path / "run")


def test_any_method_may_begin_from_a_run(whole: Path, tmp_path: Path, train_tiny: TrainTiny) -> None:
    settings = {"start.source": str(whole / "distill"), "training.learning_rate": 1e-30, "training.epochs": 1}
    unread = {"encoder.stem": "compact"}  # of another kind of network, as in a recipe that serves several
    run = train_tiny(tmp_path / "run", "byol", settings=settings | unread)
    named = dict(run.load().named_parameters())
    for name, value in stillhouse.load(whole / "distill").named_parameters():
        torch.testing.assert_close(named[name], value, msg=name)


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"training.epochs": 100}, (100, 0)),
        ({"training.steps": 7}, (TrainingConfig.epochs, 7)),
        ({"training.epochs": 3, "training.steps": 0}, (3, 0)),
        ({}, (TrainingConfig.epochs, 2000)),
    ],
)
def test_whoever_sets_epochs_or_steps_means_these(settings: dict[str, Any], length: tuple[float, int]) -> None:
    training = as_wanted("simclrv2-finetune", "digits", settings).training
    assert (training.epochs, training.steps) == length
