"""Encoders from anywhere: our own runs, timm, torchvision, or a file of weights with the name of a network."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from stillhouse.errors import RunError, SettingsError
from stillhouse.networks.build import EncoderConfig, build_encoder, check_name
from stillhouse.networks.classifier import Classifier, load_classifier
from stillhouse.networks.encoder import Encoder, undisturbed
from stillhouse.networks.plain import torchvision_encoder
from stillhouse.networks.saved import CARD, load_encoder

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
    require_license: Literal["", "permissive"] = ""
    """`permissive` refuses a teacher whose licence is unknown or restricts its use."""
    digest: str = ""
    """Hash of the teacher's weights; filled in when training starts, and compared when it goes on."""
    license: str = ""
    """What the teacher's card states; filled in when training starts."""


@dataclass(frozen=True)
class OpenedTeacher:
    """A frozen network, and its settings with everything found out about it written down."""

    network: Encoder | Classifier
    config: TeacherConfig


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
    return _checked(*_find(config), config)


def open_classifier(config: TeacherConfig) -> OpenedTeacher:
    """The classifier of a run, opened as a teacher whose answers are class scores.

    Raises:
        SettingsError: no run is named, it has no classifier, or as in `open_teacher`.
    """
    if not config.source:
        raise SettingsError(
            "teacher.source: none named, and this method learns from a classifier; pass --teacher RUN_DIRECTORY of a "
            "run that learnt classes (simclrv2-finetune)"
        )
    if config.weights or config.prefix:
        raise SettingsError("teacher.weights: a run directory brings its own weights; leave out --teacher-weights")
    folder = Path(config.source)
    try:
        classifier = load_classifier(folder)
        license_ = str(json.loads((folder / "encoder" / CARD).read_text()).get("license", ""))
    except RunError as error:
        raise SettingsError(f"teacher.source: {error}") from error
    return _checked(classifier, license_, config)


def _checked(network: Encoder | Classifier, license_: str, config: TeacherConfig) -> OpenedTeacher:
    digest = digest_of(network)
    if config.digest and config.digest != digest:
        raise SettingsError(
            f"teacher.source: the weights of {config.source} changed since this run began; put them back to go on"
        )
    if config.require_license == "permissive" and not license_.lower().startswith(PERMISSIVE):
        raise SettingsError(
            f"teacher.source: {config.source} has the licence {license_ or 'unknown'}, which is not known to be "
            "permissive; choose another teacher, or leave out --require-license"
        )
    size = config.image_size or network.image_size
    network = network.eval().requires_grad_(False)
    _check_runs(network, size, config)
    return OpenedTeacher(network, replace(config, image_size=size, digest=digest, license=license_))


def digest_of(network: nn.Module) -> str:
    """Hash of a network's weights and buffers, by name."""
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def absolute_source(config: TeacherConfig) -> TeacherConfig:
    """The same teacher, named so that it is found from any working directory."""
    source, weights = Path(config.source), config.weights
    found = config.source if not config.source or not source.is_dir() else str(source.resolve())
    return replace(config, source=found, weights=str(Path(weights).resolve()) if weights else "")


def _find(config: TeacherConfig) -> tuple[Encoder, str]:
    """The network with its weights in it, and its licence, empty if unknown."""
    source = config.source
    if Path(source).is_dir():
        return _from_run(Path(source), config)
    kind, _, name = source.rpartition(":")
    own_weights = not config.weights
    if kind == "timm":
        encoder, license_ = _from_timm(name, config.image_size, own_weights)
    elif kind == "torchvision":
        encoder, license_ = torchvision_encoder(name, config.image_size or 224, pretrained=own_weights), ""
    else:
        encoder, license_ = _by_name(source, config), ""
    if own_weights:
        return encoder, license_
    weights, stated = read_weights(Path(config.weights))
    fill(encoder, weights, config.prefix, config.weights)
    return encoder, stated


def _from_run(folder: Path, config: TeacherConfig) -> tuple[Encoder, str]:
    if config.weights or config.prefix:
        raise SettingsError("teacher.weights: a run directory brings its own weights; leave out --teacher-weights")
    inner = folder if (folder / CARD).exists() else folder / "encoder"
    encoder, _ = load_encoder(inner)
    return encoder, str(json.loads((inner / CARD).read_text()).get("license", ""))


def _from_timm(name: str, image_size: int, pretrained: bool) -> tuple[Encoder, str]:
    from stillhouse.networks.timm_encoder import TimmEncoder, published_size

    encoder = TimmEncoder(name, image_size or published_size(name), pretrained=pretrained)
    return encoder, str(encoder.network.pretrained_cfg.get("license") or "") if pretrained else ""


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


def fill(encoder: Encoder, weights: Mapping[str, Tensor], prefix: str, where: str) -> None:
    """Load weights named as this project or as the network's home library names them; a classifier is left out.

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
    extra = sorted(n for n in set(weights) - set(own) if not n.removeprefix(inner).startswith(CLASSIFIERS))
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


def _check_runs(network: Encoder | Classifier, size: int, config: TeacherConfig) -> None:
    try:
        with undisturbed(network):
            vector = network(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SettingsError(
            f"teacher.image_size: {config.source} does not run on RGB images of {size} px ({error}); "
            f"it was made for {network.image_size} px"
        ) from error
    if not vector.isfinite().all():
        raise SettingsError(f"teacher.source: {config.source} gives values that are not finite; its weights are broken")
