"""Runs that end, stop, crash and go on."""

import json
import math
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import stillhouse
from stillhouse.errors import DataError, Interrupted, RunError, SettingsError, TrainingError
from stillhouse.methods.simclr import SimCLR
from stillhouse.methods.table import METHODS
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.saved import save_encoder
from stillhouse.recipes.judging import evaluate_run
from stillhouse.recipes.run import resume, train
from stillhouse.training.checkpoint import read_checkpoint
from tests.recipes.conftest import TINY, TrainTiny
from tests.teachers import save_teacher

SAVES_EVERY_STEP = {"training.checkpoint_steps": 1}


class CrashError(Exception):
    """A process that died."""


class DiesAt:
    """A listener that takes the run down at a step, before anything is saved."""

    def __init__(self, step: int, error: type[BaseException] = CrashError) -> None:
        self.step, self.error = step, error

    def hear(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "step" and record["step"] == self.step:
            raise self.error

    def close(self) -> None:
        """Nothing is open."""


def weights(run: stillhouse.Run) -> dict[str, Tensor]:
    content: dict[str, Tensor] = read_checkpoint(run.checkpoints.last)["method"]
    return content


def records(run: stillhouse.Run, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


SISTERS = ("sdssl-byol", "sdssl-simclr", "mocov3", "compress", "disco", "simreg", "crd-supervised")
"""Methods made of the same parts as others, whose resumed runs are tested with the slow ones."""


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=pytest.mark.slow) if name in SISTERS else name for name in [*METHODS, "byol + crd"]],
)
def test_a_run_that_died_goes_on_to_the_same_bits(method: str, tmp_path: Path, train_tiny: TrainTiny) -> None:
    whole = train_tiny(tmp_path / "whole", method)
    with pytest.raises(CrashError):
        train_tiny(tmp_path / "broken", method, [DiesAt(6)])
    assert read_checkpoint(tmp_path / "broken/checkpoints/last.pt")["progress"]["step"] == 5
    broken = resume(tmp_path / "broken")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(broken).values(), strict=True))
    assert [r["terms"] for r in records(whole, "step")][6:] == [r["terms"] for r in records(broken, "step")][-6:]
    mine, theirs = stillhouse.load(tmp_path / "whole"), stillhouse.load(tmp_path / "broken")
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(mine(images), theirs(images))


def test_what_a_run_leaves_behind(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run", "sdssl-simclr")
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"recipe.toml", "checkpoints", "encoder", "log.jsonl", "samples.npz", "quarantine.txt"}
    assert run.quarantine_file.read_text() == ""
    assert not records(run, "glimpse")
    steps = records(run, "step")
    assert [record["step"] for record in steps] == list(range(1, 13))
    assert steps[-1]["progress"] == 1
    assert steps[0]["learning_rate"] == 0
    assert all(set(record["terms"]) == {"final", "intermediate"} for record in steps)
    assert [record["step"] for record in records(run, "knn")] == [4, 8, 12]
    assert [record["step"] for record in records(run, "health")] == [4, 8, 12]
    assert records(run, "health")[0]["sentence"]
    with np.load(run.samples_file) as samples:
        assert samples["originals"].shape == (8, 16, 16, 3)
        assert samples["views"].shape == (2, 8, 16, 16, 3)
    best = read_checkpoint(run.checkpoints.best)["progress"]
    assert best["best"] == max(record["score"] for record in records(run, "knn"))
    recipe = run.read_recipe()
    assert recipe.encoder.image_size == 16
    assert recipe.training.precision in {"fp32", "bf16"}
    assert recipe.method.parts[0].config.views.views


def test_same_recipe_same_losses_and_another_seed_others(tmp_path: Path, train_tiny: TrainTiny) -> None:
    runs = [train_tiny(tmp_path / str(n), settings={"training.seed": seed}) for n, seed in enumerate((0, 0, 1))]
    losses = [[record["loss"] for record in records(run, "step")] for run in runs]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_watching_changes_nothing(tmp_path: Path, train_tiny: TrainTiny) -> None:
    quiet = {"evaluation.every": 0, "training.health_steps": 0, "training.checkpoint_steps": 100}
    watched, unwatched = train_tiny(tmp_path / "a"), train_tiny(tmp_path / "b", settings=quiet)
    assert [r["loss"] for r in records(watched, "step")] == [r["loss"] for r in records(unwatched, "step")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_first_and_says_how_to_go_on(
    number: signal.Signals, tmp_path: Path, train_tiny: TrainTiny
) -> None:
    class Asks(DiesAt):
        def hear(self, record: Mapping[str, Any]) -> None:
            if record["kind"] == "step" and record["step"] == self.step:
                signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=rf"stopped by {number.name} after step 7; saved; .*stillhouse resume"):
        train_tiny(tmp_path / "run", listeners=[Asks(7)], settings={"training.checkpoint_steps": 100})
    assert signal.getsignal(number) == before
    assert read_checkpoint(tmp_path / "run/checkpoints/last.pt")["progress"]["step"] == 7
    assert stillhouse.load(tmp_path / "run").dim == 64
    whole, stopped = train_tiny(tmp_path / "whole"), resume(tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(stopped).values(), strict=True))


def test_a_run_directory_is_never_overwritten(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"already holds a run.*training.epochs: 3.* became 9.*resume"):
        train_tiny(tmp_path / "run", settings={"training.epochs": 9})
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def test_resuming_with_a_changed_recipe_is_refused_with_the_keys(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run")
    text = run.recipe_file.read_text()
    run.recipe_file.write_text(text.replace("temperature = 0.2", "temperature = 0.3"))
    with pytest.raises(RunError, match=r"method.temperature: 0.2 became 0.3"):
        resume(run.folder)
    run.recipe_file.write_text(text)
    resume(run.folder)


def test_a_finished_run_resumes_to_itself(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run")
    before = weights(run)
    resume(run.folder)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), weights(run).values(), strict=True))


def test_a_loss_that_is_not_finite_stops_with_step_terms_and_remedy(
    tmp_path: Path, train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = SimCLR.forward

    def poisoned(self: SimCLR, batch: Any, progress: float) -> dict[str, Tensor]:
        return {
            name: term * (torch.nan if progress >= 0.5 else 1) for name, term in plain(self, batch, progress).items()
        }

    monkeypatch.setattr(SimCLR, "forward", poisoned)
    with pytest.raises(TrainingError, match=r"not finite at step 7 \(contrast nan\).*learning_rate"):
        train_tiny(tmp_path / "run", settings=SAVES_EVERY_STEP)
    content = read_checkpoint(tmp_path / "run/checkpoints/last.pt")
    assert content["progress"]["step"] == 6
    assert all(tensor.isfinite().all() for tensor in content["method"].values())


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.save

    def full(content: Any, file: Any) -> None:
        plain(content, file)
        if content["progress"]["step"] == 6:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"last\.pt: cannot be written .*No space left"):
        train_tiny(tmp_path / "run", settings=SAVES_EVERY_STEP)
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "run/checkpoints/last.pt")["progress"]["step"] == 5
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_damaged_checkpoint_is_an_error_and_not_code(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run")
    whole = run.checkpoints.last.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"cos\nsystem\n(S'echo hacked'\ntR."):
        run.checkpoints.last.write_bytes(content)
        with pytest.raises(RunError, match=r"last\.pt: cannot be read"):
            resume(run.folder)


def test_a_torn_log_line_is_cut_off(tmp_path: Path, train_tiny: TrainTiny) -> None:
    with pytest.raises(CrashError):
        train_tiny(tmp_path / "run", listeners=[DiesAt(6)])
    with open(tmp_path / "run/log.jsonl", "a") as file:
        file.write('{"kind": "step", "st')
    run = resume(tmp_path / "run")
    assert records(run, "step")[-1]["step"] == 12


def test_accumulation_is_the_mean_of_its_batches(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run", settings={"training.accumulate": 2, "training.batch_size": 8})
    assert records(run, "step")[-1]["step"] == 12
    assert run.read_recipe().training.images_per_step == 16


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"training.device": "abacus"}, SettingsError, "training.device"),
        ({"training.batch_size": 1}, SettingsError, "training.batch_size"),
        ({"training.epoch": 5}, SettingsError, "did you mean training.epochs"),
        ({"trainings.epochs": 5}, SettingsError, "did you mean training"),
        ({"method.name": "simclrr"}, SettingsError, "did you mean simclr"),
        ({"encoder.name": "vit_micr"}, SettingsError, "did you mean vit_micro"),
        ({"data.uri": "nowhere/"}, DataError, "nowhere"),
        ({"encoder.patch_size": 7}, SettingsError, "patch_size"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    settings: dict[str, Any], error: type[Exception], told: str, tmp_path: Path, train_tiny: TrainTiny
) -> None:
    with pytest.raises(error, match=told):
        train_tiny(tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_more_images_per_step_than_there_are_is_brought_down(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run", settings={"training.batch_size": 1000})
    assert run.read_recipe().training.batch_size == 64


def test_tensorboard_hears_the_same_numbers(tmp_path: Path, train_tiny: TrainTiny) -> None:
    pytest.importorskip("tensorboard")
    run = train_tiny(tmp_path / "run", settings={"training.tensorboard": True, "training.epochs": 1})
    assert any((run.folder / "tensorboard").iterdir())


def test_training_leaves_the_callers_random_state_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train({"method": {"name": "byol"}}, "digits", tmp_path / "run", TINY | {"training.epochs": 0.3})
    assert torch.equal(before, torch.get_rng_state())


def test_other_images_than_the_run_began_with_are_refused(tmp_path: Path, train_tiny: TrainTiny) -> None:
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(20):
        Image.new("RGB", (16, 16), (12 * number, 0, 0)).save(photos / f"{number}.png")
    settings = SAVES_EVERY_STEP | {"data.uri": str(photos), "data.limit": 0, "training.batch_size": 4}
    with pytest.raises(CrashError):
        train_tiny(tmp_path / "run", listeners=[DiesAt(3)], settings=settings)
    Image.new("RGB", (16, 16)).save(photos / "more.png")
    with pytest.raises(RunError, match=r"images changed since the run began \(20 images then, 21 now\)"):
        resume(tmp_path / "run")
    (photos / "more.png").unlink()
    assert records(resume(tmp_path / "run"), "step")[-1]["step"] == 15


def test_broken_weights_never_replace_a_checkpoint(
    tmp_path: Path, train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = SimCLR.after_step

    def poison(self: SimCLR, progress: float) -> None:
        plain(self, progress)
        if progress >= 0.5:
            next(p for p in self.parameters() if p.requires_grad).data.fill_(torch.nan)

    monkeypatch.setattr(SimCLR, "after_step", poison)
    with pytest.raises(TrainingError, match="weights are not finite after step 7, though the loss is"):
        train_tiny(
            tmp_path / "run",
            settings=SAVES_EVERY_STEP | {"training.log_steps": 100, "evaluation.every": 0, "training.health_steps": 0},
        )
    assert read_checkpoint(tmp_path / "run/checkpoints/last.pt")["progress"]["step"] == 6


def test_a_run_that_died_before_it_saved_leaves_no_lines_behind(tmp_path: Path, train_tiny: TrainTiny) -> None:
    with pytest.raises(CrashError):
        train_tiny(
            tmp_path / "run", listeners=[DiesAt(5)], settings={"training.checkpoint_steps": 100, "evaluation.every": 0}
        )
    run = train_tiny(tmp_path / "run", settings={"training.epochs": 1})
    assert [record["step"] for record in records(run, "step")] == [1, 2, 3, 4]


def test_the_same_images_by_another_name_are_split_and_not_learnt_by_heart(tmp_path: Path) -> None:
    from stillhouse.data.store import DataConfig
    from stillhouse.recipes.judging import _open

    link = tmp_path / "list.txt"
    image = tmp_path / "a.png"
    from PIL import Image

    Image.new("RGB", (16, 16)).save(image)
    link.write_text("a.png\n")
    first, second = _open(DataConfig(uri=str(link)), DataConfig(uri=f"{tmp_path}/../{tmp_path.name}/list.txt"), 16)
    assert first is second


def test_a_folder_with_other_files_is_nobodys_run(tmp_path: Path, train_tiny: TrainTiny) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/recipe.toml").write_text("[method]\nname = 'simclr'\n")
    (tmp_path / "mine/.draft.tmp").write_text("mine as well")
    with pytest.raises(RunError, match="not of a run"):
        train_tiny(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [".draft.tmp", "recipe.toml"]


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run")
    (run.checkpoints_folder / ".last.pt.1.tmp").write_bytes(b"half")
    resume(run.folder)
    assert sorted(path.name for path in run.checkpoints_folder.iterdir()) == ["best.pt", "last.pt"]


def test_an_error_inside_a_run_is_not_taken_for_a_lock(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), stillhouse.Run(tmp_path / "run").alone():
        raise BlockingIOError


def test_only_one_process_trains_in_a_directory(tmp_path: Path, train_tiny: TrainTiny) -> None:
    with stillhouse.Run(tmp_path / "run").alone(), pytest.raises(RunError, match="another process is training here"):
        train_tiny(tmp_path / "run")


def test_a_crash_between_saving_and_marking_the_best_is_mended(
    tmp_path: Path, train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stillhouse.training.checkpoint import Checkpoints

    def die(self: Checkpoints) -> None:
        raise CrashError

    plain = Checkpoints.mark_best
    monkeypatch.setattr(Checkpoints, "mark_best", die)
    with pytest.raises(CrashError):
        train_tiny(tmp_path / "run")
    monkeypatch.setattr(Checkpoints, "mark_best", plain)
    assert not (tmp_path / "run/checkpoints/best.pt").exists()
    run = resume(tmp_path / "run")
    best = read_checkpoint(run.checkpoints.best)["progress"]
    assert best["step"] == best["best_step"]
    assert best["best"] == max(record["score"] for record in records(run, "knn"))


def test_silent_damage_is_noticed(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run")
    for path, told in ((run.checkpoints.last, "damaged"), (run.encoder_folder / "model.safetensors", "not the file")):
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 400] = bytes(byte ^ 255 for byte in content[middle : middle + 400])
        path.write_bytes(content)
        with pytest.raises(RunError, match=told):
            resume(run.folder) if path.suffix == ".pt" else stillhouse.load(run.folder)


def test_recipes_that_lead_back_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('base = "b.toml"\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\n')
    with pytest.raises(SettingsError, match="leads back to itself"):
        train(tmp_path / "a.toml", "digits", tmp_path / "run")


def test_an_ignored_signal_stays_ignored(tmp_path: Path, train_tiny: TrainTiny) -> None:
    class HangsUp(DiesAt):
        def hear(self, record: Mapping[str, Any]) -> None:
            if record["kind"] == "step" and record["step"] == self.step:
                signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = train_tiny(tmp_path / "run", listeners=[HangsUp(7)])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert records(run, "step")[-1]["step"] == 12


QUICK = {"evaluation.linear": False, "evaluation.alignment_images": 16, "evaluation.atlas_images": 0, "data.limit": 64}


def test_both_of_two_that_learn_together_are_kept_and_judged(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run", "dogo")
    assert (run.load().dim, run.load_peer().dim) == (64, 512)
    for peer, name in ((False, "vit_nano"), (True, "resnet10")):
        found = evaluate_run(run.folder, "digits#test", settings=QUICK, peer=peer)
        assert found.sources.encoder == name
    assert run.evaluation_file.read_text() != run.peer_evaluation_file.read_text()
    with pytest.raises(RunError, match="no encoder found"):
        evaluate_run(train_tiny(tmp_path / "other").folder, "digits#test", settings=QUICK, peer=True)


def test_a_teacher_that_changed_is_refused_and_the_run_stays_as_it_was(tmp_path: Path, train_tiny: TrainTiny) -> None:
    teacher = save_teacher(tmp_path / "teacher")
    named = {"teacher.source": str(teacher)}
    with pytest.raises(CrashError):
        train_tiny(tmp_path / "run", "simreg", [DiesAt(6)], named)
    before = (tmp_path / "run/checkpoints/last.pt").read_bytes()
    config = EncoderConfig(name="resnet10", image_size=16).fit(16)
    save_encoder(teacher / "encoder", build_encoder(config, 6), config, {})
    with pytest.raises(SettingsError, match=r"the weights of .* changed since this run began"):
        resume(tmp_path / "run")
    assert (tmp_path / "run/checkpoints/last.pt").read_bytes() == before
    save_teacher(teacher)
    resume(tmp_path / "run")


def test_what_taught_is_in_the_students_card(tmp_path: Path, train_tiny: TrainTiny) -> None:
    teacher = save_teacher(tmp_path / "teacher", license="mit")
    run = train_tiny(tmp_path / "run", "seed", settings={"teacher.source": str(teacher)})
    card = json.loads((run.encoder_folder / "card.json").read_text())
    assert card["teacher"]["license"] == "mit"
    assert card["teacher"]["sha256"] == run.read_recipe().teacher.digest
    assert "teacher" not in read_checkpoint(run.checkpoints.last)["method"]


@pytest.mark.parametrize("method", ["crd", "crd-supervised"])
def test_several_teachers_are_told_resumed_and_carded(method: str, tmp_path: Path, train_tiny: TrainTiny) -> None:
    config = EncoderConfig(name="vit_nano", image_size=16).fit(16)
    save_encoder(tmp_path / "second/encoder", build_encoder(config, 2), config, {"license": "mit"})
    named = {"teacher.more": [{"source": str(tmp_path / "second")}], "method.teacher_weights": [1.0, 0.5]}
    with pytest.raises(CrashError):
        train_tiny(tmp_path / "run", method, [DiesAt(3)], named | SAVES_EVERY_STEP | {"training.epochs": 1})
    run = resume(tmp_path / "run")
    assert len(read_checkpoint(run.checkpoints.last)["method"]["partners.searches.1.teacher_bank.rows"]) == 64
    card = json.loads((run.encoder_folder / "card.json").read_text())
    assert [each["license"] for each in card["more_teachers"]] == ["mit"]
    told = "\n".join(records(run, "start")[0]["about"])
    assert told.count("teacher: ") == 2
    with pytest.raises(SettingsError, match=r"teacher\.more: seed learns from one teacher"):
        train_tiny(tmp_path / "other", "seed", settings={"teacher.more": [{"source": str(tmp_path / "second")}]})


def test_a_student_of_colour_from_a_teacher_of_brightness_is_judged_as_any_other(
    tmp_path: Path, train_tiny: TrainTiny
) -> None:
    settings = {"encoder.modality": "chrominance", "teacher.modality": "luminance", "training.epochs": 1}
    run = train_tiny(tmp_path / "run", "crd", settings=settings)
    assert json.loads((run.encoder_folder / "card.json").read_text())["encoder"]["modality"] == "chrominance"
    gray = torch.rand(1, 1, 16, 16).expand(-1, 3, -1, -1)
    assert torch.equal(run.load()(gray), run.load()(0.5 * gray))  # digits have no colour: all images are one to it
    judged = evaluate_run(run.folder, "digits#test", settings=QUICK)
    assert judged.of("encoder", "knn")[-1].accuracy < 0.3 < judged.of("pixels", "knn")[0].accuracy


def test_views_that_the_encoder_does_not_take_are_told_before_anything_is_written(
    tmp_path: Path, train_tiny: TrainTiny
) -> None:
    fixed = {"encoder.name": "timm:vit_tiny_patch16_224", "encoder.image_size": 32}
    with pytest.raises(SettingsError, match="does not take views of 16 px"):
        train_tiny(tmp_path / "run", "dino", settings=fixed)
    assert not (tmp_path / "run").exists()


def test_a_sum_is_one_run(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run", "dogo + seed", settings={"method.weights": [1.0, 0.5], "training.epochs": 1})
    terms = set(records(run, "step")[0]["terms"])
    assert terms == {"dogo/own", "dogo/peer", "dogo/own_from_peer", "dogo/peer_from_own", "seed/similarity"}
    card = json.loads((run.encoder_folder / "card.json").read_text())
    assert card["method"] == "dogo + seed"
    assert card["teacher"]["sha256"] == run.read_recipe().teacher.digest
    assert run.load_peer().dim == 512
    assert records(run, "start")[0]["about"][0].startswith("dogo + seed on vit_nano: ")
    table = run.read_table()
    assert table["method"]["methods"] == ["dogo", "seed"]
    assert table["method"]["seed"]["hidden_dim"] == 64
    assert {"teacher", "peer"} <= table.keys()
    fixed = {"encoder.name": "timm:vit_tiny_patch16_224", "encoder.image_size": 32}
    with pytest.raises(SettingsError, match=r"^method\.dino\.views: .* does not take views of 16 px"):
        train_tiny(tmp_path / "other", "seed + dino", settings=fixed)


def test_weight_decay_runs_to_its_end(tmp_path: Path, train_tiny: TrainTiny) -> None:
    decay = {"training.weight_decay": 0.1, "training.weight_decay_end": 0.5, "training.clip_each": 1e-3}
    run = train_tiny(tmp_path / "run", settings=decay)
    groups = read_checkpoint(run.checkpoints.last)["optimizer"]["param_groups"]
    last = 0.5 - 0.4 * 0.5 * (1 + math.cos(math.pi * 11 / 12))
    assert [group["weight_decay"] for group in groups] == [pytest.approx(last), 0.0]
