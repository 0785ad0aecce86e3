"""Encoders from anywhere: our own runs, timm, torchvision, or a file of weights with the name of a network."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from annotated_types import Interval
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from stillhouse.errors import SettingsError
from stillhouse.networks.build import EncoderConfig, build_encoder, check_name
from stillhouse.networks.classifier import CLASSIFIER, load_classifier
from stillhouse.networks.encoder import Encoder, undisturbed
from stillhouse.networks.foreign_classifier import linear_classifier
from stillhouse.networks.modality import Modality
from stillhouse.networks.plain import torchvision_encoder
from stillhouse.networks.saved import CARD, load_encoder
from stillhouse.networks.teacher import FrozenTeacher

PERMISSIVE = ("apache", "mit", "bsd", "isc", "cc0", "cc-by-4", "unlicense", "zlib")
"""Beginnings of licences that allow any use; compared in lower case."""
CLASSIFIERS = ("fc.", "head.", "heads.", "classifier.", "head_dist.")
"""Beginnings of weights that belong to a classifier, which an encoder does not have."""
WRAPPERS = ("state_dict", "model", "teacher", "student")
"""Keys under which other programs put the weights inside their checkpoints."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Which frozen network teaches."""

    source: str = ""
    """A run directory of ours, `timm:NAME`, `torchvision:NAME`, or a network of ours (`resnet50`) with `weights`."""
    weights: str = ""
    """File of weights (safetensors or a plain state dict); without it, timm and torchvision fetch their own."""
    prefix: str = ""
    """What the names of the wanted weights begin with in the file, for instance `encoder_q.`; it is cut off."""
    image_size: Annotated[int, Interval(ge=0, le=4096)] = 0
    """Side in pixels that views are resized to for the teacher; 0 is the size it was made for."""
    modality: Modality = "rgb"
    """What it is shown of a view: all of it, only its brightness (`luminance`) or only its colour (`chrominance`).
    A run of ours that was trained on one of them brings that along; this is for other networks."""
    require_license: Literal["", "permissive"] = ""
    """`permissive` refuses a teacher whose licence is unknown or restricts its use."""
    digest: str = ""
    """Hash of the teacher's weights; filled in when training starts, and compared when it goes on."""
    license: str = ""
    """What the teacher's card states; filled in when training starts."""


C = TypeVar("C", bound=TeacherConfig)


@dataclass(frozen=True)
class OpenedTeacher:
    """A frozen network, and its settings with everything found out about it written down."""

    encoder: Encoder
    config: TeacherConfig
    classifier: nn.Module | None = None
    """From its image vector to class scores, where it came with one."""
    classes: tuple[str, ...] = ()
    """Names of its classes, where they are known."""

    def frozen(self) -> FrozenTeacher:
        """The teacher that a method is made with."""
        config = self.config
        brought = self.encoder.normalize.modality == config.modality
        return FrozenTeacher(
            self.encoder, config.image_size,
            modality="rgb" if brought else config.modality, classifier=self.classifier, classes=self.classes,
        )  # fmt: skip


def open_teacher(config: TeacherConfig) -> OpenedTeacher:
    """Find the teacher, load its weights and check that it is what the settings say.

    Raises:
        SettingsError: there is no such network or file, the weights do not fit it, it does not take RGB images, its
            licence is not the one asked for, or its weights changed since `config.digest` was written.
    """
    if not config.source:
        raise SettingsError(
            "teacher.source: none named, and this method needs one; pass --teacher RUN_DIRECTORY, timm:NAME, "
            "torchvision:NAME, or a network's name with --teacher-weights FILE"
        )
    found = _find(config)
    license_ = found.config.license
    digest = digest_of(found.encoder, *([found.classifier] if found.classifier else []))
    if config.digest and config.digest != digest:
        raise SettingsError(
            f"teacher.source: the weights of {config.source} changed since this run began; put them back to go on"
        )
    if config.require_license == "permissive" and not license_.lower().startswith(PERMISSIVE):
        raise SettingsError(
            f"teacher.source: {config.source} has the licence {license_ or 'unknown'}, which is not known to be "
            "permissive; choose another teacher, or leave out --require-license"
        )
    size = config.image_size or found.encoder.image_size
    _check_runs(found.encoder.eval().requires_grad_(False), size, config)
    return replace(found, config=replace(found.config, image_size=size, digest=digest))


def digest_of(*networks: nn.Module) -> str:
    """Hash of the networks' weights and buffers, by name."""
    total = hashlib.sha256()
    for name, tensor in (pair for network in networks for pair in sorted(network.state_dict().items())):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def absolute_source(config: C) -> C:
    """The same teacher, named so that it is found from any working directory."""
    source, weights = Path(config.source), config.weights
    found = config.source if not config.source or not source.is_dir() else str(source.resolve())
    return replace(config, source=found, weights=str(Path(weights).resolve()) if weights else "")


def _find(config: TeacherConfig) -> OpenedTeacher:
    """The network with its weights in it, and what came along; nothing is checked yet."""
    source = config.source
    if Path(source).is_dir():
        return _from_run(Path(source), config)
    kind, _, name = source.rpartition(":")
    own_weights = not config.weights
    left: Mapping[str, Tensor] = {}
    license_ = ""
    if kind == "timm":
        encoder, left, license_ = _from_timm(name, config.image_size, own_weights)
    elif kind == "torchvision":
        encoder, left = torchvision_encoder(name, config.image_size or 224, pretrained=own_weights)
    else:
        encoder = _by_name(source, config)
    if not own_weights:
        weights, license_ = read_weights(Path(config.weights))
        left = fill(encoder, weights, config.prefix, config.weights)
    return OpenedTeacher(encoder, replace(config, license=license_), linear_classifier(left, encoder.dim))


def _from_run(folder: Path, config: TeacherConfig) -> OpenedTeacher:
    if config.weights or config.prefix:
        raise SettingsError("teacher.weights: a run directory brings its own weights; leave out --teacher-weights")
    inner = folder if (folder / CARD).exists() else folder / "encoder"
    encoder, built = load_encoder(inner)
    if "rgb" not in (config.modality, built.modality) and config.modality != built.modality:
        raise SettingsError(
            f"teacher.modality: {config.modality}, but {folder} brings its own, {built.modality}; leave it out"
        )
    config = replace(config, license=str(json.loads((inner / CARD).read_text()).get("license", "")))
    if not (folder / CLASSIFIER).is_dir():
        return OpenedTeacher(encoder, config)
    learnt = load_classifier(folder)
    return OpenedTeacher(encoder, config, learnt.scorer, learnt.classes)


def _from_timm(name: str, image_size: int, pretrained: bool) -> tuple[Encoder, Mapping[str, Tensor], str]:
    from stillhouse.networks.timm_encoder import TimmEncoder, published_encoder, published_size

    size = image_size or published_size(name)
    if not pretrained:
        return TimmEncoder(name, size), {}, ""
    encoder, left = published_encoder(name, size)
    return encoder, left, str(encoder.network.pretrained_cfg.get("license") or "")


def _by_name(name: str, config: TeacherConfig) -> Encoder:
    try:
        check_name(name)
    except SettingsError as error:
        raise SettingsError(f"teacher.source: no folder {name}, and no network of that name ({error})") from error
    if not config.weights:
        raise SettingsError(f"teacher.source: {name} is a network without weights; pass --teacher-weights FILE")
    if not config.image_size:
        raise SettingsError("teacher.image_size: a file does not tell it; set it to the size the teacher was made for")
    return build_encoder(EncoderConfig(name=name).fit(config.image_size))


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors by name from a safetensors file or a plain state dict, and the licence the file states, if any.

    Nothing in the file is executed. A checkpoint that keeps its weights under a usual name is opened to there.

    Raises:
        SettingsError: the file is missing, damaged, or holds no weights.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                stated = (file.metadata() or {}).get("license", "")
                return {name: file.get_tensor(name) for name in file.keys()}, stated  # noqa: SIM118 (not a dict)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SettingsError(f"teacher.weights: no file {path}; check the path") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        told = str(error).splitlines()[0]
        raise SettingsError(f"teacher.weights: {path} cannot be read as weights ({told}); save a state dict") from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    named = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(key): value for key, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise SettingsError(f"teacher.weights: {path} holds no weights by name; save a state dict")
    return tensors, ""


def fill(encoder: Encoder, weights: Mapping[str, Tensor], prefix: str, where: str) -> Mapping[str, Tensor]:
    """Load weights named as this project or as the network's home library names them.

    Returns:
        What was left out: the weights of a classifier, if there are any.

    Raises:
        SettingsError: names are missing or left over, or a shape differs; says which.
    """
    weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    if prefix:
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    own = encoder.state_dict()
    inner = "network."
    if not any(name.startswith(inner) for name in weights) and any(name.startswith(inner) for name in own):
        weights = {inner + name: tensor for name, tensor in weights.items()}
    constant = {name for name in own if name.startswith("normalize.") or name.endswith("num_batches_tracked")}
    known = {name: tensor for name, tensor in weights.items() if name in own}
    missing = sorted(set(own) - set(known) - constant)
    left = {name: tensor for name, tensor in weights.items() if name not in own}
    extra = sorted(name for name in left if not name.removeprefix(inner).startswith(CLASSIFIERS))
    wrong = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in known.items()
        if tensor.shape != own[name].shape
    ]
    found = [
        f"{len(names)} {told} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for told, names in (("missing", missing), ("left over", extra), ("of another shape", wrong))
        if names
    ]
    if found:
        raise SettingsError(
            f"teacher.weights: {where} does not fit the network: {'; '.join(found)}; "
            "check teacher.source, or name what the weights begin with in teacher.prefix"
        )
    encoder.load_state_dict({**{name: own[name] for name in constant}, **known})
    return left


def _check_runs(encoder: Encoder, size: int, config: TeacherConfig) -> None:
    try:
        with undisturbed(encoder):
            vector = encoder(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SettingsError(
            f"teacher.image_size: {config.source} does not run on RGB images of {size} px ({error}); "
            f"it was made for {encoder.image_size} px"
        ) from error
    if not vector.isfinite().all():
        raise SettingsError(f"teacher.source: {config.source} gives values that are not finite; its weights are broken")
