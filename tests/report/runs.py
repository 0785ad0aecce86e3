"""Run directories as training and evaluation leave them."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Entry = dict[str, Any]
RECIPE = """
[data]
uri = "photos/"
labels = true
[encoder]
name = "vit_micro"
[method]
name = "sdssl-mocov3"
temperature = 0.2
[method.views]
count = 2
"""


def step(number: int, **changes: Any) -> Entry:
    """A line of kind `step`."""
    terms = {"contrast": 4.0 - number / 1000, "intermediate": 1.0}
    line = {"kind": "step", "step": number, "epoch": number / 50, "progress": number / 400, "loss": sum(terms.values())}
    rates = {"learning_rate": 1e-3, "images_per_second": 210.0, "data_share": 0.02, "seconds": number / 2}
    return line | {"terms": terms} | rates | changes


def health(number: int, **changes: Any) -> Entry:
    """A line of kind `health`."""
    line = {"kind": "health", "step": number, "spread": 0.8, "effective_rank": 31.2, "dim": 96}
    return line | {"sentence": "healthy: spread 0.80, effective rank 31 of 96"} | changes


def knn(number: int, *blocks: float) -> Entry:
    """A line of kind `knn`."""
    return {"kind": "knn", "step": number, "epoch": number / 50, "blocks": blocks, "k": 20, "queries": 2000}


def wilson(accuracy: float, count: int = 10_000) -> list[float]:
    """95 % interval of an accuracy on `count` images."""
    shift = 1.96**2 / count
    half = 1.96 * math.sqrt((accuracy * (1 - accuracy) + shift / 4) / count)
    return [(accuracy + shift / 2 - half) / (1 + shift), (accuracy + shift / 2 + half) / (1 + shift)]


def result(subject: str, block: int, accuracy: float, protocol: str = "knn(k=20,T=0.07)", **settings: float) -> Entry:
    """One entry of `results`."""
    score = {"subject": subject, "block": block, "protocol": protocol, "accuracy": accuracy}
    return score | {"interval": wilson(accuracy), "settings": settings}


def evaluation(**changes: Any) -> Entry:
    """Three blocks, two protocols, both baselines, alignment."""
    results = [
        result(subject, block, accuracy + 0.1 * protocol.startswith("linear"), protocol)
        for protocol in ("knn(k=20,T=0.07)", "linear(lbfgs)")
        for subject, accuracies in (("encoder", (0.4, 0.587, 0.571)), ("untrained", (0.31, 0.328, 0.3)))
        for block, accuracy in enumerate(accuracies, 1)
    ] + [result("pixels", 0, 0.339), result("pixels", 0, 0.371, "linear(lbfgs)")]
    data = {"train": "train.parquet", "test": "test.parquet", "train_images": 50_000, "test_images": 10_000}
    blocks = [{"block": block, "positive": 0.2, "negative": 0.5 * block, "ratio": 2.5 * block} for block in (1, 2, 3)]
    return {
        "version": 1,
        "data": data | {"classes": ["cat", "dog"]},
        "encoder": {"name": "vit_micro", "blocks": 3, "block_dims": [96, 96, 96]},
        "results": results,
        "alignment": {"images": 1000, "blocks": blocks},
        "seconds": 81.0,
    } | changes


def samples(side: int = 16, num_views: int = 2) -> dict[str, np.ndarray]:
    """Eight noisy originals and their views."""
    draw = np.random.default_rng(0).integers
    return {
        "originals": draw(0, 256, (8, side, side, 3), dtype=np.uint8),
        "views": draw(0, 256, (num_views, 8, side, side, 3), dtype=np.uint8),
    }


def atlas(labelled: bool = True, count: int = 12, classes: int = 3) -> dict[str, np.ndarray]:
    """Small images of every class in turn, two depths, two images that were asked for their neighbours."""
    draw = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (8 * -(-count // 4), 32, 3), dtype=np.uint8)).save(file, "WEBP")
    return {
        "ids": np.array([f"photos/image-{number}.png" for number in range(count)]),
        "labels": np.arange(count) % classes if labelled else np.full(count, -1),
        "classes": np.array([f"class {number}" for number in range(classes)] if labelled else [], dtype=np.str_),
        "sheet": np.frombuffer(file.getvalue(), np.uint8),
        "columns": np.array([4]),
        "shapes": np.full((count, 2), 8),
        "blocks": np.array([2, 3]),
        "points": draw.uniform(-1, 1, (2, count, 2)).astype(np.float32),
        "queries": np.array([0, 1]),
        "neighbours": np.array([[3, 1], [2, 4]]),
        "cosines": np.array([[0.9, 0.5], [0.8, 0.7]], dtype=np.float32),
        "near_block": np.array([2]),
    }


def protocols() -> Entry:
    """What an evaluation measures beside accuracies, in small."""
    exits = [{"block": block, "accuracy": 0.4 + block / 20, "milliseconds": block / 2} for block in (1, 2, 3)]
    return {
        "confusion": {"version": 1, "classes": ["cat", "dog"], "counts": [[90, 10], [20, 80]]},
        "exits": {"depths": exits, "curve": [{"mean_depth": 1.5, "accuracy": 0.52, "milliseconds": 0.8}]},
        "cka": {"blocks": [[1, 0.8, 0.4], [0.8, 1, 0.7], [0.4, 0.7, 1]]},
        "spectrum": {"version": 1, "settings": {"eps": 1e-7}, "rankme": 42.125, "alpha": [1.5, 1.25, 1.125]},
        "corruptions": {"accuracy": {"fog": [0.5, 0.4, 0.3], "snow": [0.45, 0.35, 0.25]}, "clean": 0.587},
    }


def log(*entries: Entry) -> str:
    """Content of `log.jsonl`."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def make_run(folder: Path, files: dict[str, str]) -> Path:
    """A run directory inside `folder` with these files."""
    run = folder / "run"
    for name, content in files.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(content, "utf-8")
    return run


def save_samples(run: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write `samples.npz`."""
    np.savez(run / "samples.npz", **arrays)  # type: ignore[arg-type]


def save_atlas(run: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write `atlas.npz`."""
    np.savez(run / "atlas.npz", **arrays)  # type: ignore[arg-type]


def make_full_run(folder: Path) -> Path:
    """A finished run with every file."""
    entries = [step(20), health(20), step(200), knn(200, 0.3, 0.4, 0.41)]
    entries += [step(400), health(400), knn(400, 0.35, 0.5, 0.48)]
    run = make_run(
        folder,
        {
            "recipe.toml": RECIPE,
            "log.jsonl": log(*entries),
            "evaluation.json": json.dumps(evaluation()),
            "quarantine.txt": "a.jpg\ttruncated\nb.jpg\ttruncated\nc.txt\tnot an image\n",
            "encoder/card.json": json.dumps({"name": "vit_micro", "parameters": 1234567}),
        },
    )
    save_samples(run, samples())
    return run
