"""All methods, by the name a recipe gives them."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stillhouse.errors import SettingsError
from stillhouse.methods.byol import BYOL, BYOLConfig
from stillhouse.methods.compress import CompRess, CompRessConfig
from stillhouse.methods.crd import CRD, CRDConfig
from stillhouse.methods.dino import DINO, DINOConfig
from stillhouse.methods.disco import DisCo, DisCoConfig
from stillhouse.methods.distill import Distill, DistillConfig
from stillhouse.methods.dogo import DoGo, DoGoConfig
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


@dataclass(frozen=True)
class Entry:
    """A method, its settings, and where both come from."""

    method: Callable[..., Method]
    """Called with the settings, the encoder and, where there is one, the companion."""
    config: type
    summary: str
    source: str
    companion: Literal["", "teacher", "classifier", "peer", "head"] = ""
    """What it needs beside the encoder: a `FrozenTeacher` of an encoder or of a classifier, a second encoder that
    learns as well, or the first layers of a projection head."""
    learns_from_labels: bool = False
    """Whether it is made with the images' `Labels`, last of all; every other method never sees them."""

    @property
    def group(self) -> str:
        """The group of settings that only it and its like read; empty for none."""
        return {"classifier": "teacher", "head": ""}.get(self.companion, self.companion)


METHODS = {
    "simclr": Entry(SimCLR, SimCLRConfig, "contrast inside the batch", "Chen et al. 2020, arXiv:2002.05709"),
    "byol": Entry(BYOL, BYOLConfig, "predict a moving average, no negatives", "Grill et al. 2020, arXiv:2006.07733"),
    "mocov3": Entry(MoCoV3, MoCoV3Config, "contrast with momentum keys", "Chen, Xie, He 2021, arXiv:2104.02057"),
    "dino": Entry(
        DINO, DINOConfig, "agree with a moving average on large views", "Caron et al. 2021, arXiv:2104.14294"
    ),
    "sdssl-simclr": Entry(
        SDSSLSimCLR, SDSSLSimCLRConfig, "SimCLR, every depth learns", "Jang et al. 2023, arXiv:2111.12958"
    ),
    "sdssl-byol": Entry(SDSSLBYOL, SDSSLBYOLConfig, "BYOL, every depth learns", "Jang et al. 2023, arXiv:2111.12958"),
    "sdssl-mocov3": Entry(
        SDSSLMoCoV3, SDSSLMoCoV3Config, "MoCo v3, every depth learns", "Jang et al. 2023, arXiv:2111.12958"
    ),
    "simreg": Entry(
        SimReg, SimRegConfig, "regress a frozen teacher", "Navaneet et al. 2021, arXiv:2201.05131", "teacher"
    ),
    "seed": Entry(
        SEED, SEEDConfig, "see a queue as a frozen teacher does", "Fang et al. 2021, arXiv:2101.04731", "teacher"
    ),
    "compress": Entry(
        CompRess,
        CompRessConfig,
        "a teacher's similarities, one queue",
        "Abbasi Koohpayegani et al. 2020, arXiv:2010.14713",
        "teacher",
    ),
    "crd": Entry(CRD, CRDConfig, "find a teacher's vector among many", "Tian et al. 2020, arXiv:1910.10699", "teacher"),
    "dogo": Entry(DoGo, DoGoConfig, "two peers learn from each other", "Bhat et al. 2021, arXiv:2104.09866", "peer"),
    "disco": Entry(
        DisCo, DisCoConfig, "MoCo v2 and a teacher's vectors", "Gao et al. 2022, arXiv:2104.09124", "teacher"
    ),
    "simclrv2-finetune": Entry(
        FineTune,
        FineTuneConfig,
        "classes from few labels, through the head",
        "Chen et al. 2020, arXiv:2006.10029",
        "head",
        learns_from_labels=True,
    ),
    "simclrv2-distill": Entry(
        Distill,
        DistillConfig,
        "a frozen classifier's scores on all images",
        "Chen et al. 2020, arXiv:2006.10029",
        "classifier",
        learns_from_labels=True,
    ),
}


def find_method(name: str) -> Entry:
    """The entry called `name`; `SettingsError` with the nearest name when there is none."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1, 0.0)[0]
        raise SettingsError(f"method.name: {name!r} is unknown; did you mean {near}? ({', '.join(METHODS)})")
    return METHODS[name]
