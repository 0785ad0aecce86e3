"""The words about an encoder: pure functions from plain tables to a model card.

The card is Markdown under a YAML header that the Hugging Face hub reads. Every string in the header is written as JSON,
which is YAML too.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]

UNKNOWN = "unknown"
LIBRARIES = {"onnx": "onnx", "timm": "timm", "torch": "pytorch", "stillhouse": "stillhouse"}
"""Name of the library that loads each format, as the hub knows it."""
IMPORTS = {
    "onnx": "import onnxruntime",
    "timm": "import timm",
    "torch": "import torch",
    "stillhouse": "import stillhouse",
}


def origin(card: Facts, evaluation: Facts, settings_sha256: str, depths: Sequence[int]) -> dict[str, Any]:
    """What is known of how an encoder came about.

    Args:
        card: content of the encoder's card.json.
        evaluation: content of its run's evaluation.json; may be empty.
        settings_sha256: hash of its run's recipe; may be empty.
        depths: blocks whose scores are told.

    Returns:
        Plain values: encoder, method, steps, whether labels were used (`with`, `without`, or empty where that is not
        known), teachers, name of the data, hashes, scores, the verdict on the last depth where that is among them. No
        path of the machine.
    """
    teachers = [card["teacher"], *card.get("more_teachers", [])] if "teacher" in card else []
    start = card.get("start")
    return {
        "encoder": card.get("encoder", {}),
        "method": card.get("method", UNKNOWN),
        "labels": card.get("labels", ""),
        "steps": card.get("steps", 0),
        "data": public_name(str(card.get("data", ""))),
        "teachers": [
            {**teacher, "source": public_name(str(teacher["source"])), "license": teacher.get("license") or UNKNOWN}
            for teacher in teachers
        ],
        "start": {**start, "source": public_name(str(start["source"]))} if start else {},
        "weights_sha256": card.get("sha256", ""),
        "settings_sha256": settings_sha256,
        "tested_on": public_name(str(evaluation.get("data", {}).get("test", ""))),
        "scores": scores(evaluation, depths),
        "verdict": evaluation.get("verdict", {}).get("sentence", "") if len(card["block_dims"]) in depths else "",
    }


def scores(evaluation: Facts, depths: Sequence[int]) -> list[dict[str, Any]]:
    """The encoder's accuracies at some depths, each with the name of its protocol."""
    return [
        {
            "depth": result["block"],
            "protocol": result["protocol"],
            "labels": result.get("labels") or "all labels",
            "accuracy": result["accuracy"],
            "interval": result["interval"],
        }
        for result in evaluation.get("results", ())
        if result["subject"] == "encoder" and result["block"] in depths
    ]


def public_card(card: Facts) -> dict[str, Any]:
    """The content of an encoder's card.json, with names of data, teachers and starts that hold no folder."""
    named = {
        key: {**card[key], "source": public_name(str(card[key]["source"]))}
        for key in ("teacher", "start")
        if key in card
    }
    more = [{**one, "source": public_name(str(one["source"]))} for one in card.get("more_teachers", ())]
    return {
        **card,
        **named,
        "data": public_name(str(card.get("data", ""))),
        **({"more_teachers": more} if more else {}),
    }


def public_name(uri: str) -> str:
    """A URI without the folders of the machine: names of a hub, of a library and of built-in images stay whole."""
    scheme, colon, _ = uri.partition(":")
    if colon and "/" not in scheme:
        return uri
    path, hash_, split = uri.partition("#")
    parts = path.rstrip("/").split("/")
    return "/".join(parts[-2:] if parts[-1].partition(".")[0] in {"train", "test", "val", "data"} else parts[-1:]) + (
        hash_ + split
    )


def of_encoder(card: Facts, evaluation: Facts, settings_sha256: str, where: str) -> dict[str, Any]:
    """Facts for the `readme` of an encoder in our own form, with all depths; arguments as in `origin`.

    Args:
        where: what stands in the line that loads it.
    """
    dims = card["block_dims"]
    return {
        **origin(card, evaluation, settings_sha256, range(1, len(dims) + 1)),
        "format": "stillhouse",
        "license": card.get("license") or UNKNOWN,
        "data_license": UNKNOWN,
        "load": f"stillhouse.load({json.dumps(where)})",
        "image_size": card["encoder"]["image_size"],
        "exits": [{"name": f"blocks[{depth}]", "depth": depth + 1, "dim": dim} for depth, dim in enumerate(dims)],
    }


def as_json(facts: Facts) -> str:
    """Content of card.json."""
    return json.dumps(facts, indent=2, allow_nan=False) + "\n"


def readme(facts: Facts) -> str:
    """README.md of an encoder.

    Args:
        facts: what `origin` gives, with `format`, `license`, `data_license`, `load`, `exits` (each `depth`, `name`,
            `dim`) and `image_size`; of an export `file`, `precision`, `verified`, `mean` and `std`, too.
    """
    parts = [_header(facts), _title(facts), _use(facts), _exits(facts), _origin(facts), _scores(facts), _proof(facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(facts: Facts) -> str:
    tags = ["image-feature-extraction", "self-supervised-learning", "stillhouse", facts["method"]]
    fields: dict[str, Any] = {
        "license": facts["license"].lower(),
        "library_name": LIBRARIES[facts["format"]],
        "pipeline_tag": "image-feature-extraction",
        "tags": [*tags, facts["format"]] if facts["format"] != "stillhouse" else tags,
    }
    if facts["data"].startswith("hf:"):
        fields["datasets"] = [facts["data"].removeprefix("hf:").partition("#")[0]]
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in fields.items()), "---"])


def _title(facts: Facts) -> str:
    name, labels = facts["encoder"].get("name", "encoder"), f"{facts['labels']} labels " if facts["labels"] else ""
    return (
        f"# {name}, trained {labels}by {facts['method']}\n\n"
        f"An image encoder: an image goes in, one vector comes out. {facts['steps']} steps at {facts['image_size']} px "
        "with stillhouse."
    )


def _use(facts: Facts) -> str:
    size, dim = facts["image_size"], facts["exits"][-1]["dim"]
    outputs = ", ".join(f"`{leaving['name']}`" for leaving in facts["exits"])
    answers = {
        "onnx": f"outputs = model.run(None, {{'images': images}})  # {outputs}",
        "timm": f"vectors = model(images)  # [B, {dim}]",
        "torch": f"outputs = model(images)  # a tuple: {outputs}",
        "stillhouse": f"vectors = model(images)  # [B, {dim}]; model.features(images).blocks: every depth",
    }
    inside = "normalization is inside"
    if facts["format"] == "timm":
        inside = (
            f"then less the mean {facts['mean']} and over the deviation {facts['std']}, as in `model.pretrained_cfg`"
        )
    images = f"Images: float32 RGB `[B, 3, {size}, {size}]` in [0, 1], any B; {inside}."
    needed = "import functools\n\nimport torch\n" if "functools" in facts["load"] else ""
    needed += "import huggingface_hub\n" * ("huggingface_hub" in facts["load"])
    code = f"{needed}{IMPORTS[facts['format']]}\n\nmodel = {facts['load']}\n{answers[facts['format']]}"
    return f"## Use\n\n```python\n{code}\n```\n\n{images}"


def _exits(facts: Facts) -> str:
    rows = "\n".join(f"| {leaving['name']} | {leaving['depth']} | {leaving['dim']} |" for leaving in facts["exits"])
    return f"| output | depth (block) | width |\n|---|---|---|\n{rows}"


def _origin(facts: Facts) -> str:
    lines = [
        f"- method: {facts['method']}",
        f"- data: {facts['data'] or UNKNOWN}, licence of the images: {facts['data_license']}",
        f"- licence of these weights: {facts['license']}",
    ]
    lines += [f"- teacher: {teacher['source']}, licence {teacher['license']}" for teacher in facts["teachers"]]
    if facts["start"]:
        lines.append(f"- began from: {facts['start']['source']}")
    for name in ("settings_sha256", "weights_sha256"):
        if facts[name]:
            lines.append(f"- {name}: `{facts[name]}`")
    return "## Where it comes from\n\n" + "\n".join(lines)


def _scores(facts: Facts) -> str:
    said = [f"Without labels: {facts['verdict']}."] if facts["verdict"] else []
    if not facts["scores"]:
        return "\n\n".join(["## Scores", *said]) if said else ""
    rows = "\n".join(
        f"| {score['depth']} | {score['protocol']} | {score['labels']} | {100 * score['accuracy']:.2f} "
        f"({100 * score['interval'][0]:.2f} to {100 * score['interval'][1]:.2f}) |"
        for score in facts["scores"]
    )
    head = "| depth | protocol | labels | accuracy in % (95 % interval) |\n|---|---|---|---|\n"
    on = f"Of the encoder before it was exported, on {facts['tested_on'] or UNKNOWN}."
    return "\n\n".join(["## Scores", on, *said, head + rows])


def _proof(facts: Facts) -> str:
    if "verified" not in facts:
        return ""
    rows = "\n".join(
        f"| {found['name']} | {found['max_difference']:.2g} | {found['cosine']:.7f} | {100 * found['neighbours']:.1f} |"
        for found in facts["verified"]["outputs"]
    )
    images, told = facts["verified"]["outputs"][0]["images"], facts["verified"]["images"]
    head = "| output | largest difference | mean cosine | same nearest neighbour in % |\n|---|---|---|---|\n"
    return (
        f"## Equal to the live encoder\n\n`{facts['file']}`, {facts['precision']}, beside the encoder it was made of, "
        f"on {images} images ({told}).\n\n{head}{rows}"
    )
