"""Runs that keep what their teacher says."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.config import Table, assign
from stillhouse.data import answers
from stillhouse.data.answers import AnswerFiles
from stillhouse.data.stream import ViewStream
from stillhouse.errors import RunError, SettingsError
from stillhouse.files import write_atomically
from stillhouse.networks.teacher import FrozenTeacher, MomentumTeacher
from stillhouse.recipes import cache_choice, teacher_cache
from stillhouse.recipes.cache_choice import Costs, forecast
from stillhouse.recipes.directory import Run
from stillhouse.recipes.preparing import Prepared, prepare
from stillhouse.recipes.recipe import read_recipe
from stillhouse.recipes.run import resume
from stillhouse.recipes.teacher_cache import TeacherCache
from tests.recipes.conftest import TINY, TrainTiny
from tests.recipes.test_run import CrashError, DiesAt, records, weights
from tests.teachers import settings_for

MakePrepared = Callable[..., Prepared]

KEPT: Mapping[str, Any] = {
    "teacher.cache": "on", "teacher.cache_epochs": 2, "data.limit": 32, "training.batch_size": 8,
    "evaluation.every": 0, "training.health_steps": 0, "training.checkpoint_steps": 100, "training.precision": "fp32",
}  # fmt: skip

SHORT = {**KEPT, "training.epochs": 2, "teacher.cache_epochs": 1}


@pytest.fixture(autouse=True)
def cache_of_its_own(cache: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 12 images, in a folder that no other test fills."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(answers, "MOST_IMAGES", 12)


@pytest.fixture
def make_prepared(tmp_path: Path) -> MakePrepared:
    """What a tiny run of SimReg trains with, or of another recipe."""

    def make(settings: Mapping[str, Any] | None = None) -> Prepared:
        table: Table = {"method": {"name": "simreg"}, "data": {"uri": "digits#train"}}
        for name, value in {**TINY, **KEPT, **settings_for("simreg", tmp_path), **(settings or {})}.items():
            table = assign(table, name, value)
        with torch.random.fork_rng():
            return prepare(read_recipe(table))

    return make


@pytest.fixture
def filled(make_prepared: MakePrepared) -> TeacherCache:
    """A cache of two epochs of 32 digits, in two times three files."""
    found = cache_in(make_prepared())
    found.fill(print)
    return found


def cache_in(prepared: Prepared) -> TeacherCache:
    assert prepared.cache is not None
    return prepared.cache


def files_of(found: TeacherCache) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(found.files.folder.glob("*.bin"))}


def check(found: TeacherCache) -> None:
    found.compare(found.files.open(found.epochs, found.device, torch.float32))


def losses(run: Run) -> list[float]:
    return [record["loss"] for record in records(run, "step")]


def test_kept_answers_give_the_very_losses_of_the_teacher_on_the_same_views(
    tmp_path: Path, train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patches of another size are kept, too."""
    views = {"views": [{"min_area": 0.5}, {"size_fraction": 0.5}]}
    wanted = {**SHORT, "method.views": views}

    def without_answers(self: TeacherCache, stream: ViewStream, tell: object) -> ViewStream:
        return replace(stream, view_epochs=self.epochs)

    with monkeypatch.context() as patch:
        patch.setattr(TeacherCache, "teach", without_answers)
        asked = train_tiny(tmp_path / "asked", "seed", settings=wanted)
    with monkeypatch.context() as patch:
        teach = TeacherCache.teach

        def fall_asleep(*arguments: Any) -> ViewStream:
            stream = teach(*arguments)
            patch.setattr(FrozenTeacher, "forward", None)
            return stream

        patch.setattr(TeacherCache, "teach", fall_asleep)
        replayed = train_tiny(tmp_path / "kept", "seed", settings=wanted)
    assert len(losses(replayed)) == 8
    assert losses(replayed) == losses(asked)


def test_answers_come_back_as_the_type_of_number_that_training_would_see(make_prepared: MakePrepared) -> None:
    settings = {"training.precision": "bf16", "teacher.cache_epochs": 1}
    prepared = make_prepared(settings)
    found, training = cache_in(prepared), prepared.recipe.training
    stream = ViewStream(store=found.store, plan=found.plan, image_size=16, batch_size=8, seed=training.seed)
    batch = next(found.teach(stream, print).batches(4))
    (said,) = batch.answers
    assert said.dtype == torch.bfloat16
    assert torch.equal(said, found.ask(batch.views)[0])


def test_the_first_epochs_are_those_without_a_cache_and_half_precision_is_near(
    tmp_path: Path, train_tiny: TrainTiny
) -> None:
    exact, rough, off = (
        train_tiny(tmp_path / str(number), "seed", settings={**SHORT, **settings})
        for number, settings in enumerate(({}, {"teacher.cache_dtype": "fp16"}, {"teacher.cache": "off"}))
    )
    assert losses(exact)[:4] == losses(off)[:4]
    assert losses(exact)[4:] != losses(off)[4:]
    assert losses(rough) != losses(exact)
    assert losses(rough) == pytest.approx(losses(exact), rel=1e-4)


def test_a_run_goes_on_to_the_same_bits_though_its_cache_was_deleted(tmp_path: Path, train_tiny: TrainTiny) -> None:
    wanted = {**SHORT, "training.checkpoint_steps": 1, "training.health_steps": 4}
    whole = train_tiny(tmp_path / "whole", "seed", settings=wanted)
    with pytest.raises(CrashError):
        train_tiny(tmp_path / "stopped", "seed", [DiesAt(6)], wanted)
    (folder,) = (tmp_path / "cache").glob("teacher-*")
    shutil.rmtree(folder)
    stopped = resume(tmp_path / "stopped")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(stopped).values(), strict=True))
    assert losses(stopped) == losses(whole)
    assert len(list(folder.glob("*.bin"))) == 3


def test_size_and_time_are_told_before_filling(tmp_path: Path, train_tiny: TrainTiny) -> None:
    run = train_tiny(tmp_path / "run", "simreg", settings={**KEPT, "training.epochs": 1, "teacher.cache_epochs": 9})
    (folder,) = (tmp_path / "cache").glob("teacher-*")
    about = "\n".join(records(run, "start")[0]["about"])
    assert "teacher cache: 1 epochs instead of 9; no more are trained\n" in about
    assert f"teacher cache: 1 epochs of views, 0.1 MiB in {folder}, filled first in about 0:00:0" in about
    notes = [record["sentence"] for record in records(run, "note")]
    assert [note.split(",")[0] for note in notes] == ["teacher cache: 33% filled", "teacher cache: 67% filled"]
    assert run.read_recipe().teacher.cache_epochs == 1
    assert sum(path.stat().st_size for path in folder.glob("*.bin")) == 32 * 512 * 4 + 3 * 64


def test_another_run_uses_what_is_filled_and_adds_what_it_lacks(
    filled: TeacherCache, make_prepared: MakePrepared
) -> None:
    before = files_of(filled)
    same = cache_in(
        make_prepared({"encoder.name": "vit_micro", "training.precision": "fp32", "training.batch_size": 8})
    )
    assert forecast(same).endswith(f"0.1 MiB in {filled.files.folder}, filled before")
    longer = cache_in(make_prepared({"teacher.cache_epochs": 3}))
    longer.fill(print)
    after = files_of(longer)
    assert (len(before), len(after)) == (6, 9)
    assert before.items() <= after.items()
    check(longer)


def test_a_damaged_file_is_made_anew_as_it_was(filled: TeacherCache) -> None:
    before = files_of(filled)
    first, second, third, *_ = before
    first.write_bytes(before[first][:-1])
    second.write_bytes(before[second][:200] + b"\xff" + before[second][201:])
    third.unlink()
    filled.fill(print)
    assert files_of(filled) == before


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("fp16", 1.01e-3)])
def test_answers_that_are_not_the_teachers_are_refused_with_the_file(
    dtype: str, tolerance: float, make_prepared: MakePrepared
) -> None:
    found = cache_in(make_prepared({"teacher.cache_dtype": dtype}))
    found.fill(print)
    check(found)
    part = found.files.parts(2)[4]
    right = found.files.open(2, found.device, torch.float32).epochs[1][1].float()
    found.files.write(part, right * (1 + tolerance / 3))
    check(found)
    found.files.write(part, right * (1 + 3 * tolerance))
    found.fill(print)  # a checksum does not tell
    with pytest.raises(RunError, match=r"epoch-0001-images-000000012.bin is not what the teacher .*delete it or its"):
        check(found)
    found.files.write(part, right * torch.nan)
    with pytest.raises(RunError, match=r"epoch-0001-images-000000012.bin is not what the teacher"):
        check(found)


def test_a_killed_fill_goes_on_where_it_was(make_prepared: MakePrepared, monkeypatch: pytest.MonkeyPatch) -> None:
    found, write, written = cache_in(make_prepared()), AnswerFiles.write, list[Any]()

    def dies(self: AnswerFiles, part: Any, said: Any) -> None:
        write(self, part, said)
        written.append(part)
        if len(written) == 4:
            raise CrashError

    monkeypatch.setattr(AnswerFiles, "write", dies)
    with pytest.raises(CrashError):
        found.fill(print)
    found.fill(print)
    assert written == found.files.parts(2)
    check(found)


def test_a_disk_that_fills_up_is_told_and_what_is_there_stays(
    make_prepared: MakePrepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: Any) -> None:
        if path.name.startswith("epoch-0001"):
            raise RunError("full") from OSError(28, "No space left on device")
        write_atomically(path, content)

    found = cache_in(make_prepared())
    monkeypatch.setattr(answers, "write_atomically", full)
    with pytest.raises(RunError, match=r"teacher.cache: .* cannot be written .*No space left.* start again"):
        found.fill(print)
    assert len(files_of(found)) == 3


def test_a_disk_without_room_is_refused_before_anything_is_written_or_done_without(
    tmp_path: Path, train_tiny: TrainTiny, make_prepared: MakePrepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_choice, "free_bytes", lambda folder: 2**20)
    with pytest.raises(RunError, match=r"teacher.cache: .* has 1.0 MiB free, and 0.1 MiB are needed; free space"):
        train_tiny(tmp_path / "run", "simreg", settings=KEPT)
    assert not (tmp_path / "run").exists()
    prepared = make_prepared({"teacher.cache": "auto"})
    assert prepared.reasons[0].startswith("teacher cache: off; ")
    assert (prepared.recipe.teacher.cache, prepared.cache) == ("off", None)


def test_a_cache_folder_that_cannot_be_written_is_refused_or_done_without(
    tmp_path: Path, make_prepared: MakePrepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"teacher.cache: .* cannot be written"):
        make_prepared({"data.cache": "memory"})
    prepared = make_prepared({"data.cache": "memory", "teacher.cache": "auto"})
    assert "cannot be written" in prepared.reasons[0]
    assert prepared.recipe.teacher.cache == "off"


@pytest.mark.parametrize(("teacher", "epochs", "chosen"), [(3.0, 100, "on"), (0.1, 100, "off"), (3.0, 3, "off")])
def test_auto_decides_by_what_is_measured_and_a_resumed_run_repeats_it(
    teacher: float, epochs: int, chosen: str, make_prepared: MakePrepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_choice, "measure", lambda *_: Costs(views=0.05, teacher=teacher, student=1.0))
    wanted = {"teacher.cache": "auto", "teacher.cache_epochs": 3, "training.epochs": epochs}
    prepared = make_prepared(wanted)
    saving = 1 - (3 * (teacher + 0.05) + epochs * 1.05) / (epochs * (1.05 + teacher))
    (reason,) = prepared.reasons
    assert reason == (
        f"teacher cache: {chosen}; an image costs the teacher {1e3 * teacher:.2g} ms and the student 1e+03 ms, "
        f"so 3 kept epochs would save {max(0, saving):.0%}"
    )
    assert prepared.recipe.teacher.cache == chosen
    monkeypatch.setattr(cache_choice, "measure", lambda *_: Costs(views=0.05, teacher=3.1 - teacher, student=1.0))
    resumed = prepare(prepared.recipe)
    assert resumed.recipe == prepared.recipe
    assert (resumed.cache is not None) == (chosen == "on")


def test_measuring_leaves_no_trace(make_prepared: MakePrepared) -> None:
    methods = [
        make_prepared({"encoder.name": "resnet10", "teacher.cache": cache}).method.state_dict()
        for cache in ("off", "auto")
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(each.values() for each in methods), strict=True))
    prepared = make_prepared()
    state = torch.get_rng_state()
    averaged = MomentumTeacher(prepared.method.encoder).module  # what is kept may itself get no gradient
    costs = cache_choice.measure(cache_in(prepared), averaged)
    assert min(costs.views, costs.teacher, costs.student) > 0
    assert torch.equal(torch.get_rng_state(), state)


def test_what_decides_the_answers_decides_the_folder(make_prepared: MakePrepared) -> None:
    found = cache_in(make_prepared())
    recipe = found.recipe
    encoder, training, data = recipe.encoder, recipe.training, recipe.data
    others = [
        replace(recipe, teacher=replace(recipe.teacher, digest="0")),
        replace(recipe, teacher=replace(recipe.teacher, image_size=24)),
        replace(recipe, teacher=replace(recipe.teacher, cache_dtype="fp16")),
        replace(recipe, training=replace(training, seed=1)),
        replace(recipe, training=replace(training, precision="bf16")),
        replace(recipe, encoder=replace(encoder, image_size=24)),
        replace(recipe, data=replace(data, uri="digits#test")),
    ]
    folders = {found.files.folder, *(replace(found, recipe=other).files.folder for other in others)}
    assert len(folders) == 8
    same = replace(recipe, training=replace(training, batch_size=8), encoder=replace(encoder, name="resnet10"))
    assert replace(found, recipe=same).files.folder == found.files.folder


def test_another_process_that_fills_is_waited_for(filled: TeacherCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(seconds: float) -> None:
        raise CrashError

    told = list[str]()
    with filled.files.lock() as other, monkeypatch.context() as patch:
        assert other()
        patch.setattr(time, "sleep", die)
        with pytest.raises(CrashError):
            filled.fill(told.append)
    assert told == ["teacher cache: another process is filling it; waiting"]
    filled.fill(told.append)
    assert len(told) == 1


def test_processes_share_the_filling(filled: TeacherCache, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_of(filled)
    for path in before:
        path.unlink()
    monkeypatch.setattr(teacher_cache, "world_size", lambda: 2)
    for number in range(2):
        monkeypatch.setattr(teacher_cache, "rank", lambda number=number: number)
        filled.fill(print)
        assert len(files_of(filled)) == 3 * (number + 1)
    assert files_of(filled) == before


def test_numbers_that_cannot_be_kept_are_told(make_prepared: MakePrepared, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = FrozenTeacher.forward
    found = cache_in(make_prepared({"teacher.cache_dtype": "fp16"}))
    monkeypatch.setattr(FrozenTeacher, "forward", lambda self, images: 1e6 * plain(self, images))
    with pytest.raises(SettingsError, match=r"teacher.cache_dtype: .* too large for fp16; set fp32"):
        found.fill(print)


def test_no_epoch_is_refused() -> None:
    table = {"method": {"name": "seed"}, "teacher": {"cache_epochs": 0, "cache": "maybe"}}
    with pytest.raises(SettingsError, match=r"(?s)teacher.cache: .*'maybe'.*teacher.cache_epochs: .*found 0"):
        read_recipe(table)
