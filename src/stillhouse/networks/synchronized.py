"""Batch normalization over the batch of all processes.

torch's own `SyncBatchNorm` runs on accelerators only; the one here does the same on a CPU.
"""

from typing import cast

import torch
from torch import Tensor, nn

from stillhouse.distributed import sum_over_processes


def synchronize_norms(module: nn.Module, device: str) -> nn.Module:
    """The module with every batch normalization made global; the weights stay the same tensors.

    Args:
        module: any network; must be alone with its norms (no other module holds them).
        device: type of the device it runs on; an accelerator gets torch's own implementation.
    """
    if device != "cpu":
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))
    return _replace(module)


def _replace(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _GlobalBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, _replace(child))
    return module


class _GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Takes over the parameters and buffers of a local batch normalization."""

    def __init__(self, local: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__(local.num_features, local.eps, local.momentum, local.affine, local.track_running_stats)
        self._parameters, self._buffers = local._parameters, local._buffers
        self.train(local.training)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (torch's name)
        assert input.ndim >= 2

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        if not self.training:
            return super().forward(input)
        rows = input.to(torch.promote_types(input.dtype, torch.float32))
        across = [dimension for dimension in range(rows.ndim) if dimension != 1]
        count = sum_over_processes(rows.new_tensor([rows.numel() / rows.shape[1]]))
        mean = sum_over_processes(rows.sum(across)) / count
        centred = rows - _on_channels(mean, rows)
        variance = sum_over_processes(centred.square().sum(across)) / count
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        result = centred * _on_channels((variance + self.eps).rsqrt(), rows)
        if self.affine:
            result = result * _on_channels(self.weight, rows) + _on_channels(self.bias, rows)
        return result.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


def _on_channels(values: Tensor, rows: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (rows.ndim - 2))
