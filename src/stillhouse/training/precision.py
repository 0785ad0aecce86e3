"""Which number format and memory layout suit a network on a device.

The rules come from measurements (`benchmarks/default_precision.py`): dense convolutions and transformers gain from
bfloat16 where the processor multiplies it natively; on a CPU depthwise convolutions and very narrow networks lose by
it, since converting costs them more than multiplying. Convolutions gain from channels-last everywhere.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "fp32", "bf16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]

NARROW = 32
"""Below this width a CPU multiplies float32 matrices faster than it converts to bfloat16 and back."""


def choose_precision(network: nn.Module, device: torch.device) -> Literal["fp32", "bf16"]:
    """The faster of float32 and bfloat16 autocast for this network on this device."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type != "cpu" or not has_native_bf16():
        return "fp32"
    return "fp32" if _is_depthwise(network) or _width(network) < NARROW else "bf16"


def choose_memory_format(network: nn.Module) -> Literal["contiguous", "channels_last"]:
    """Channels-last for convolutional networks."""
    return "channels_last" if len(_spatial_convolutions(network)) > 1 else "contiguous"


def torch_memory_format(name: MemoryFormat) -> torch.memory_format:
    """The torch constant of that name."""
    return torch.channels_last if name == "channels_last" else torch.contiguous_format


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Where the forward pass runs; losses lift themselves back to float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def has_native_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices itself (AVX-512 BF16 or AMX)."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities.startswith("AVX512") and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def _spatial_convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1]


def _is_depthwise(network: nn.Module) -> bool:
    return any(module.groups == module.in_channels > 1 for module in _spatial_convolutions(network))


def _width(network: nn.Module) -> int:
    """The smaller side of the largest matrix among the weights, roughly: channels that meet channels."""
    linear = [min(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]
    dense = [
        min(m.in_channels, m.out_channels) for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups == 1
    ]
    return max([*linear, *dense], default=0)
