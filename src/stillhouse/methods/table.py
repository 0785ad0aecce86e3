"""All methods, by the name a recipe gives them."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stillhouse.errors import SettingsError
from stillhouse.methods.byol import BYOL, BYOLConfig
from stillhouse.methods.compress import CompRess, CompRessConfig
from stillhouse.methods.crd import CRD, CRDConfig
from stillhouse.methods.crd_supervised import CRDSupervised, CRDSupervisedConfig
from stillhouse.methods.dino import DINO, DINOConfig
from stillhouse.methods.disco import DisCo, DisCoConfig
from stillhouse.methods.distill import Distill, DistillConfig
from stillhouse.methods.dogo import DoGo, DoGoConfig
from stillhouse.methods.esvit import EsViT, EsViTConfig
from stillhouse.methods.finetune import FineTune, FineTuneConfig
from stillhouse.methods.method import Method
from stillhouse.methods.mocov3 import MoCoV3, MoCoV3Config
from stillhouse.methods.sdssl import (
    SDSSLBYOL,
    SDSSLBYOLConfig,
    SDSSLMoCoV3,
    SDSSLMoCoV3Config,
    SDSSLSimCLR,
    SDSSLSimCLRConfig,
)
from stillhouse.methods.seed import SEED, SEEDConfig
from stillhouse.methods.simclr import SimCLR, SimCLRConfig
from stillhouse.methods.simreg import SimReg, SimRegConfig

CompanionKind = Literal["teacher", "teachers", "peer", "head", "labels"]
"""A `FrozenTeacher`; one or several of them in a list; a second encoder that learns as well; the first layers of a
projection head; the `Labels` of the images, which no other method sees."""


@dataclass(frozen=True)
class Entry:
    """A method, its settings, and where both come from."""

    method: Callable[..., Method]
    """Called with the settings, the encoder and all companions."""
    config: type
    summary: str
    source: str
    companions: tuple[CompanionKind, ...] = ()
    """What it needs beside the encoder, in the order in which it takes them."""
    separable: bool = False
    """Whether an image's loss does not depend on the other images of its batch (but for batch normalization), so that
    a step may be made of smaller batches."""


METHODS = {
    "simclr": Entry(SimCLR, SimCLRConfig, "contrast inside the batch", "Chen et al. 2020, arXiv:2002.05709"),
    "byol": Entry(
        BYOL,
        BYOLConfig,
        "predict a moving average, no negatives",
        "Grill et al. 2020, arXiv:2006.07733",
        separable=True,
    ),
    "mocov3": Entry(MoCoV3, MoCoV3Config, "contrast with momentum keys", "Chen, Xie, He 2021, arXiv:2104.02057"),
    "dino": Entry(
        DINO, DINOConfig, "agree with a moving average on large views", "Caron et al. 2021, arXiv:2104.14294"
    ),
    "esvit": Entry(
        EsViT, EsViTConfig, "DINO, and regions agree with those like them", "Li et al. 2022, arXiv:2106.09785"
    ),
    "sdssl-simclr": Entry(
        SDSSLSimCLR, SDSSLSimCLRConfig, "SimCLR, every depth learns", "Jang et al. 2023, arXiv:2111.12958"
    ),
    "sdssl-byol": Entry(
        SDSSLBYOL,
        SDSSLBYOLConfig,
        "BYOL, every depth learns",
        "Jang et al. 2023, arXiv:2111.12958",
        separable=True,
    ),
    "sdssl-mocov3": Entry(
        SDSSLMoCoV3, SDSSLMoCoV3Config, "MoCo v3, every depth learns", "Jang et al. 2023, arXiv:2111.12958"
    ),
    "simreg": Entry(
        SimReg,
        SimRegConfig,
        "regress a frozen teacher",
        "Navaneet et al. 2021, arXiv:2201.05131",
        ("teacher",),
        separable=True,
    ),
    "seed": Entry(
        SEED,
        SEEDConfig,
        "see a queue as a frozen teacher does",
        "Fang et al. 2021, arXiv:2101.04731",
        ("teacher",),
    ),
    "compress": Entry(
        CompRess,
        CompRessConfig,
        "a teacher's similarities, one queue",
        "Abbasi Koohpayegani et al. 2020, arXiv:2010.14713",
        ("teacher",),
    ),
    "crd": Entry(
        CRD, CRDConfig, "find a teacher's vector among many", "Tian et al. 2020, arXiv:1910.10699", ("teachers",)
    ),
    "crd-supervised": Entry(
        CRDSupervised,
        CRDSupervisedConfig,
        "the same among other classes, and classify",
        "Tian et al. 2020, arXiv:1910.10699",
        ("teachers", "labels"),
    ),
    "dogo": Entry(DoGo, DoGoConfig, "two peers learn from each other", "Bhat et al. 2021, arXiv:2104.09866", ("peer",)),
    "disco": Entry(
        DisCo,
        DisCoConfig,
        "MoCo v2 and a teacher's vectors",
        "Gao et al. 2022, arXiv:2104.09124",
        ("teacher",),
    ),
    "simclrv2-finetune": Entry(
        FineTune,
        FineTuneConfig,
        "classes from few labels, through the head",
        "Chen et al. 2020, arXiv:2006.10029",
        ("head", "labels"),
        separable=True,
    ),
    "simclrv2-distill": Entry(
        Distill,
        DistillConfig,
        "a frozen classifier's scores on all images",
        "Chen et al. 2020, arXiv:2006.10029",
        ("teacher", "labels"),
    ),
}


SUM = "sum"
"""Name that a recipe gives to several methods over one encoder (`methods.choice`)."""


def find_method(name: str, where: str = "method.name", also: tuple[str, ...] = ()) -> Entry:
    """The entry called `name`.

    Args:
        name: of the method.
        where: the setting that names it, for the message.
        also: what the setting may name besides.

    Raises:
        SettingsError: there is none; says the nearest name.
    """
    if name not in METHODS:
        known = [*METHODS, *also]
        near = difflib.get_close_matches(name, known, 1, 0.0)[0]
        raise SettingsError(f"{where}: {name!r} is unknown; did you mean {near}? ({', '.join(known)})")
    return METHODS[name]
