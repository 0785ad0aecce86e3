"""Runs that begin from a clone, stay near it, and are halted by whoever began them."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from stillhouse.config import to_table
from stillhouse.errors import Interrupted, SettingsError
from stillhouse.methods.travel import pack
from stillhouse.recipes.directory import Run
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.run import alongside, as_wanted, begin, go_on, resume
from stillhouse.training.checkpoint import read_checkpoint
from tests.recipes.conftest import TINY, TrainTiny
from tests.recipes.test_run import CrashError, DiesAt, weights

QUIET = {"evaluation.every": 0, "training.health_steps": 0}
LABELLED = {"method": {"name": "simclrv2-finetune", "head_layer": 0, "zero_output": False}}


def save_clone(path: Path, table: dict[str, Any], settings: dict[str, Any]) -> str:
    """The method of a recipe before any training, shaken; gives its hash."""
    wanted = as_wanted(table, "digits#train", TINY | settings)
    with alongside(wanted):
        method = prepare(wanted).method
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        packed = save(dict(pack(method)))
    path.write_bytes(packed)
    return hashlib.sha256(packed).hexdigest()


def test_a_run_from_a_clone_goes_on_to_the_same_bits(tmp_path: Path, train_tiny: TrainTiny) -> None:
    method = "byol"
    digest = save_clone(tmp_path / "core.safetensors", {"method": {"name": method}}, {})
    start = {"start.source": str(tmp_path / "core.safetensors"), "training.proximal": 0.1} | QUIET
    whole = train_tiny(tmp_path / "whole", method, settings=start)
    assert whole.read_recipe().start.digest == digest
    with pytest.raises(CrashError):
        train_tiny(tmp_path / "broken", method, [DiesAt(6)], start)
    broken = resume(tmp_path / "broken")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole).values(), weights(broken).values(), strict=True))


def test_training_begins_with_the_weights_of_the_clone(tmp_path: Path) -> None:
    path = tmp_path / "core.safetensors"
    save_clone(path, LABELLED, {})
    wanted = as_wanted(LABELLED, "digits#train", TINY | {"start.source": str(path), "training.seed": 5})
    with alongside(wanted):
        method = prepare(wanted).method
    assert hashlib.sha256(save(dict(pack(method)))).digest() == hashlib.sha256(path.read_bytes()).digest()


def test_a_head_that_was_kept_comes_back_from_the_shapes_of_the_clone(tmp_path: Path, train_tiny: TrainTiny) -> None:
    train_tiny(tmp_path / "pretrained")
    table = {"method": {"name": "simclrv2-finetune", "head_layer": 1}}
    path = tmp_path / "core.safetensors"
    save_clone(path, table, {"start.source": str(tmp_path / "pretrained")})
    for count, fits in ((1, True), (0, False)):
        changes = {"start.source": str(path), "method.head_layer": count}
        wanted = as_wanted(table, "digits#train", TINY | changes)
        if fits:
            with alongside(wanted):
                prepare(wanted)
            continue
        with pytest.raises(SettingsError, match=r"method\.head_layer: 0, but .* has 1 layers"):
            prepare(wanted)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"start.digest": "0" * 64}, "changed since this run began"),
        ({"method.name": "simclr"}, "not a clone of this recipe's method"),
        ({"encoder.name": "vit_micro"}, "not a clone of this recipe's method"),
    ],
)
def test_another_clone_is_refused(settings: dict[str, Any], match: str, tmp_path: Path) -> None:
    save_clone(tmp_path / "core.safetensors", {"method": {"name": "byol"}}, {})
    changes = {"start.source": str(tmp_path / "core.safetensors"), **settings}
    with pytest.raises(SettingsError, match=match):
        prepare(as_wanted({"method": {"name": "byol"}}, "digits#train", TINY | changes))


@pytest.mark.parametrize("content", [b"", b"\x80\x04no pickle is read.", b"\xff" * 64])
def test_a_damaged_clone_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "core.safetensors").write_bytes(content)
    changes = {"start.source": str(tmp_path / "core.safetensors")}
    with pytest.raises(SettingsError, match="cannot be read"):
        prepare(as_wanted({"method": {"name": "byol"}}, "digits#train", TINY | changes))


def test_classes_keep_the_numbers_of_the_core_where_images_lack_some(tmp_path: Path) -> None:
    classes = ["9", *map(str, range(9))]
    wanted = as_wanted(LABELLED, "digits#train", TINY | {"data.classes": classes, "data.limit": 8})
    with alongside(wanted):
        prepared = prepare(wanted)
    method = prepared.method
    assert method.classifier
    assert method.classifier.classes == tuple(classes)
    assert method.classifier.output.out_features == 10
    shown = [prepared.store.classes[label] for label in prepared.store.labels.tolist()]
    assert len(set(shown)) < 10
    labels: torch.Tensor = method.labels  # type: ignore[assignment]
    assert [classes[number] for number in labels.tolist()] == shown
    with pytest.raises(SettingsError, match=r"data\.classes: there are images of '9'"):
        prepare(as_wanted(LABELLED, "digits#train", TINY | {"data.classes": classes[1:]}))


def test_the_classes_that_images_show_are_written_out() -> None:
    wanted = as_wanted(LABELLED, "digits#train", TINY)
    with alongside(wanted):
        recipe = prepare(wanted).recipe
    assert to_table(recipe.data)["classes"] == list("0123456789")


def test_a_pull_keeps_a_run_near_its_clone(tmp_path: Path, train_tiny: TrainTiny) -> None:
    path = tmp_path / "core.safetensors"
    save_clone(path, {"method": {"name": "simclr"}}, {})
    sgd = {"training.optimizer": "sgd", "training.learning_rate": 0.1, "training.weight_decay": 0.0}
    strayed = []
    for strength in (0.0, 30.0):
        changes = {"start.source": str(path), "training.proximal": strength, **sgd, **QUIET}
        now, began = weights(train_tiny(tmp_path / str(strength), settings=changes)), load_file(path)
        learnt = [name for name in began if "running" not in name and "num_batches" not in name]
        strayed.append(sum(float((now[name] - began[name]).square().sum()) for name in learnt))
    assert strayed[0] > 2 * strayed[1] > 0


def test_whoever_began_a_run_may_halt_it(tmp_path: Path) -> None:
    wanted = as_wanted(
        {"method": {"name": "simclr"}}, "digits#train", TINY | QUIET | {"training.checkpoint_steps": 100}
    )
    asked = []

    def halt() -> str:
        asked.append(1)
        return "its owner" if len(asked) == 5 else ""

    run = Run(tmp_path / "run")
    with alongside(wanted):
        prepared = prepare(wanted)
        with pytest.raises(Interrupted, match="stopped by its owner after step 5; saved"):
            begin(run, prepared, halt=halt)
        assert read_checkpoint(run.checkpoints.last)["progress"]["step"] == 5
        go_on(run, prepare(run.read_recipe()))
    assert read_checkpoint(run.checkpoints.last)["progress"]["step"] == 12
