"""The command line as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stillhouse.cli.main import main, train
from stillhouse.methods.table import METHODS
from stillhouse.recipes import run
from stillhouse.recipes.directory import Run
from stillhouse.recipes.recipe import find_recipe, read_recipe, shipped_recipes
from tests.teachers import settings_for

OURS = {"STILLHOUSE_CACHE": "{folder}/cache", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

TINY = [
    f"--set={setting}"
    for setting in (
        "data.limit=64",
        "encoder.name=vit_nano",
        "training.epochs=3",
        "training.batch_size=16",
        "training.checkpoint_steps=1",
        "training.log_steps=1",
        "evaluation.every=1",
    )
]


@dataclass(frozen=True)
class Outcome:
    """What a command printed."""

    stdout: str
    stderr: str


Stillhouse = Callable[..., Outcome]


@pytest.fixture
def stillhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Stillhouse:
    """Run a command in `tmp_path` inside this process and insist on its exit code."""
    monkeypatch.chdir(tmp_path)
    for name, value in OURS.items():
        monkeypatch.setenv(name, value.format(folder=tmp_path))

    def run(*words: str, code: int = 0) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["stillhouse", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        outcome = Outcome(*capfd.readouterr())
        assert (ended.value.code or 0) == code, outcome
        assert "Traceback" not in outcome.stderr
        return outcome

    return run


def in_a_process(folder: Path, *words: str) -> None:
    """Run a command in `folder` in a process of its own."""
    subprocess.run([sys.executable, "-m", "stillhouse", *words], check=True, cwd=folder, env=environment(folder))


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {name: value.format(folder=folder) for name, value in OURS.items()}


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_whole(name: str) -> None:
    recipe = read_recipe(find_recipe(name))
    assert recipe.about.summary
    assert recipe.about.source
    assert all(part.name in METHODS for part in recipe.method.parts)


def test_every_method_has_a_recipe_of_its_own_name() -> None:
    assert set(METHODS) <= set(shipped_recipes())


def test_from_images_to_a_report(tmp_path: Path, stillhouse: Stillhouse) -> None:
    trained = stillhouse("train", "sdssl-simclr", "--data", "digits#train", "--out", "run", *TINY)
    assert "k-NN" in trained.stdout
    assert "loss" in trained.stdout
    wanted = ("alignment_images=32", "atlas_images=24", "correspondence_images=16", "last_blocks=2")
    asked = [f"--set=evaluation.{setting}" for setting in wanted]
    judged = stillhouse("evaluate", "run", "--data", "digits#test", *asked)
    rows = [line.split()[0] for line in judged.stdout.splitlines() if line.strip()]
    assert [row for row in rows if row in ("pixels", "1", "2", "last2")] == ["pixels", "1", "2", "last2"]
    assert "note: regions of the encoder in changed copies: " in judged.stdout
    assert "untrained" in judged.stdout
    evaluation = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert {(r["subject"], r["block"]) for r in evaluation["results"]} == {
        ("encoder", 1), ("encoder", 2), ("untrained", 1), ("untrained", 2), ("pixels", 0),
    }  # fmt: skip
    words = (tmp_path / "run/encoder/README.md").read_text()
    assert "# vit_nano, trained without labels by sdssl-simclr" in words
    assert "| 2 | linear(" in words
    exported = stillhouse("export", "run", "--to", "timm", "--out", "given", "--exit", "1", "--license", "mit")
    assert "written: given/model.safetensors" in exported.stdout
    assert "digits#train" in exported.stdout
    assert 'license: "mit"' in (tmp_path / "given/README.md").read_text()
    assert "| 1 | knn" in (tmp_path / "given/README.md").read_text()
    for wrong, code in (("--exit=9", 2), ("--data=nowhere", 3), ("--to=tflite", 2)):
        stillhouse("export", "run", "--to", "timm", "--out", "other", wrong, code=code)
    stillhouse("export", "nowhere", "--to", "timm", "--out", "other", code=4)
    assert not (tmp_path / "other").exists()
    reported = stillhouse("report", "run")
    assert "report.html" in reported.stdout
    assert (tmp_path / "run/report.html").stat().st_size > 10_000
    again = stillhouse("train", "sdssl-simclr", "--data", "digits#train", "--out", "run", *TINY, code=4)
    assert "stillhouse resume run" in again.stderr


def test_lists(stillhouse: Stillhouse) -> None:
    methods, recipes = stillhouse("methods").stdout, stillhouse("recipes").stdout
    assert all(name in methods for name in METHODS)
    assert all(name in recipes for name in shipped_recipes())
    assert "sdssl-mocov3 + seed" in recipes
    shown = stillhouse("recipes", "byol").stdout
    assert 'name = "byol"' in shown


def test_from_a_pretrained_run_to_a_classifier_and_its_student(tmp_path: Path, stillhouse: Stillhouse) -> None:
    tiny = ["--set=training.batch_size=16", "--set=training.health_steps=0"]
    stillhouse("train", "simclr", "--data", "digits#train", "--out", "run", *TINY)
    tuned = ["finetune", "run", "--data", "digits#train", "--labels", "30%", "--out", "few", "--set=data.limit=64"]
    told = stillhouse(*tuned, *tiny, "--set=training.steps=3")
    assert "begins from" in told.stdout
    assert "learning from the 19 with a known label" in told.stdout
    assert "few/classifier" in told.stdout
    student = ["train", "simclrv2-distill", "--data", "digits#train", "--teacher", "few", "--start", "run"]
    stillhouse(*student, "--out", "student", *TINY, *tiny, "--set=encoder.mean=[0.485, 0.456, 0.406]",
               "--set=encoder.std=[0.229, 0.224, 0.225]")  # fmt: skip
    quick = [
        "--set=evaluation.linear=false",
        "--set=evaluation.alignment_images=0",
        "--set=evaluation.atlas_images=0",
        "--set=evaluation.pixels=false",
    ]
    judged = stillhouse("evaluate", "student", "--data", "digits#test", *quick)
    assert "classifier" in judged.stdout
    stillhouse("report", "student")
    page = (tmp_path / "student/report.html").read_text()
    assert "<dt>Classifier</dt>" in page
    assert "learnt from what labels its own training knew" in page


def test_a_pipeline_ends_once_and_says_what_it_finished_before(stillhouse: Stillhouse) -> None:
    words = ["pipeline", "simclrv2", "--data", "digits#train", "--labels", "20", "--out", "all", "--set=data.limit=64"]
    for stage in ("pretrain", "finetune", "distill"):
        words += [f"--set={stage}.{setting}" for setting in ("training.batch_size=16", "training.health_steps=0")]
    words += ["--set=pretrain.encoder.name=vit_nano", "--set=distill.encoder.name=vit_nano"]
    words += ["--set=pretrain.training.epochs=1", "--set=finetune.training.steps=2", "--set=distill.training.epochs=1"]
    first = stillhouse(*words).stdout
    assert [line for line in first.splitlines() if line.startswith("stage")] == [
        "stage 1 of 3: pretrain", "stage 2 of 3: finetune", "stage 3 of 3: distill",
    ]  # fmt: skip
    assert stillhouse(*words).stdout.count("finished before: all/") == 3
    refused = stillhouse(*words, "--set=finetune.training.steps=3", code=4)
    assert "finetune was begun with other settings" in refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["train", "simcrl", "--data", "digits", "--out", "run"], 2, "did you mean simclr"),
        (["train", "simclr", "--data", "nowhere", "--out", "run"], 3, "nowhere"),
        (["train", "simclr", "--data", "digits", "--out", "run", "--set", "training.epoch=1"], 2, "training.epochs"),
        (["train", "simclr", "--data", "digits", "--out", "run", "--set", "training.epochs"], 2, "--set"),
        (["train", "missing.toml", "--data", "digits", "--out", "run"], 2, "missing.toml"),
        (["train", "simclr", "--out", "run"], 2, "--data"),
        (["train", "seed", "--data", "digits", "--out", "run"], 2, "--teacher"),
        (["train", "sdssl-mocov3-seed", "--data", "digits", "--out", "run"], 2, "--teacher"),
        (
            ["train", "simclr", "--data", "digits", "--out", "run", "--set=method.name=sum"],
            2,
            "method.methods: 0 named",
        ),
        (["train", "simclr", "--data", "digits", "--out", "run", "--set", "peer.name=resnet10"], 2, "has no peer"),
        (["train", "simclr", "--data", "digits", "--out", "run", "--teacher", "runs/big"], 2, "simclr has no teacher"),
        (["train", "seed", "--data", "digits", "--out", "run", "--teacher", "timm:resnet8t"], 2, "no such model"),
        (["finetune", "nowhere", "--data", "digits", "--labels", "1%", "--out", "run"], 2, "start.source: "),
        (["pipeline", "simclrv3", "--data", "digits", "--out", "run"], 2, "did you mean simclrv2"),
        (["pipeline", "simclrv2", "--data", "digits", "--out", "run", "--set", "epochs=3"], 2, "pretrain.epochs"),
        (["train", "simclrv2-finetune", "--data", "digits", "--out", "run"], 2, "--start RUN_DIRECTORY"),
        (["train", "simclrv2-distill", "--data", "digits", "--out", "run"], 2, "--teacher RUN_DIRECTORY"),
        (["resume", "nowhere"], 4, "nowhere"),
        (["evaluate", "nowhere", "--data", "digits"], 4, "nowhere"),
        (["report", "nowhere"], 4, "nowhere"),
        (["recipes", "nothing"], 2, "not shipped"),
        (["train", "simclr", "--data", "digits", "--start", "a" * 300, "--out", "r"], 4, "File name too long"),
    ],
)
def test_mistakes_are_one_message_and_an_exit_code(
    words: list[str], code: int, told: str, tmp_path: Path, stillhouse: Stillhouse
) -> None:
    result = stillhouse(*words, code=code)
    assert told in result.stderr
    assert result.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_file_may_start_from_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "byol"\n[training]\nepochs = 5\n[method]\nmomentum = 0.5\n')
    recipe = read_recipe(find_recipe(str(tmp_path / "mine.toml")))
    (part,) = recipe.method.parts
    assert (part.name, recipe.training.epochs, part.config.momentum) == ("byol", 5.0, 0.5)
    assert recipe.training.batch_size == read_recipe(find_recipe("byol")).training.batch_size


@pytest.mark.parametrize("command", [["train", "simclr"], ["finetune", "r"], ["pipeline", "simclrv2"], ["demo"]])
def test_an_empty_out_is_no_folder(command: list[str], tmp_path: Path, stillhouse: Stillhouse) -> None:
    result = stillhouse(*command, *(["--data", "digits"] if command != ["demo"] else []), "--out", "", code=2)
    assert "no folder named" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_kill_at_any_moment_then_resume(method: str, tmp_path: Path) -> None:
    import random

    import torch

    needed = [f"--set={name}={value}" for name, value in settings_for(method, tmp_path).items()]
    words = [
        "train",
        method,
        "--data",
        "digits#train",
        *TINY,
        "--set=training.epochs=12",
        "--set=training.steps=0",
        *needed,
    ]
    in_a_process(tmp_path, *words, "--out", "whole")
    process = subprocess.Popen(
        [sys.executable, "-m", "stillhouse", *words, "--out", "killed"],
        cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "killed/checkpoints/last.pt").exists():
        time.sleep(0.01)
    time.sleep(random.random())
    process.send_signal(signal.SIGKILL)
    process.wait()
    in_a_process(tmp_path, "resume", "killed")
    whole, killed = (
        torch.load(tmp_path / name / "checkpoints/last.pt", weights_only=True) for name in ("whole", "killed")
    )
    assert whole["progress"]["step"] == killed["progress"]["step"]
    assert all(torch.equal(whole["method"][key], killed["method"][key]) for key in whole["method"])


@pytest.mark.slow
def test_torchrun_trains_and_resumes(tmp_path: Path) -> None:
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "stillhouse",
    ]  # fmt: skip
    words = ["train", "sdssl-mocov3", "--data", "digits#train", "--out", "run", *TINY]
    for arguments in (words, ["resume", "run"]):
        result = subprocess.run(
            [*torchrun, *arguments], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stdout.count("trained: ") == 1
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert max(steps) == 12


def test_the_first_teacher_and_all_further_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, Any]] = []

    def listen(recipe: str, data: str, out: Path, settings: dict[str, Any], listeners: Any) -> Any:
        heard.append(settings)
        return Run(out)

    monkeypatch.setattr(run, "train", listen)
    for teachers in ([], ["runs/a"], ["runs/a", "timm:b", "runs/c"]):
        train("crd", tmp_path, teacher=teachers)
    assert heard == [
        {},
        {"teacher.source": "runs/a"},
        {"teacher.source": "runs/a", "teacher.more": [{"source": "timm:b"}, {"source": "runs/c"}]},
    ]
