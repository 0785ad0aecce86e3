"""The rules that choose number format and memory layout, on a processor with and without native bfloat16."""

import pytest
import torch
from torch import nn

from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.training import precision
from stillhouse.training.precision import autocast, choose_memory_format, choose_precision, torch_memory_format

CPU = torch.device("cpu")


def encoder(name: str, image_size: int = 32) -> nn.Module:
    return build_encoder(EncoderConfig(name=name, image_size=image_size))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", "bf16"),
        ("resnet10", "bf16"),
        ("vit_tiny", "bf16"),
        ("vit_micro", "bf16"),
        ("vit_nano", "bf16"),
        ("timm:mobilenetv3_small_100", "fp32"),
    ],
)
def test_on_a_cpu_that_multiplies_bfloat16_depthwise_convolutions_decide(
    name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_native_bf16", lambda: True)
    assert choose_precision(encoder(name), CPU) == expected


def test_a_very_narrow_network_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_native_bf16", lambda: True)
    assert choose_precision(nn.Linear(16, 3), CPU) == "fp32"
    assert choose_precision(nn.Linear(64, 64), CPU) == "bf16"


def test_a_cpu_without_native_bfloat16_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_native_bf16", lambda: False)
    assert choose_precision(encoder("resnet18"), CPU) == "fp32"


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_takes_bfloat16_for_every_network_if_it_can(
    supported: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    for name in ("vit_nano", "timm:mobilenetv3_small_100"):
        assert choose_precision(encoder(name), torch.device("cuda")) == expected


def test_another_accelerator_computes_in_float32() -> None:
    assert choose_precision(encoder("resnet10"), torch.device("mps")) == "fp32"


def test_the_processor_s_own_answer_needs_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not precision.has_native_bf16()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert not precision.has_native_bf16()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert precision.has_native_bf16()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet18", "channels_last"), ("timm:mobilenetv3_small_100", "channels_last"), ("vit_tiny", "contiguous")],
)
def test_convolutional_networks_are_laid_out_channels_last(name: str, expected: str) -> None:
    network = encoder(name)
    chosen = choose_memory_format(network)
    assert chosen == expected
    layout = torch_memory_format(chosen)
    network.to(memory_format=layout)
    kernels = [p for p in network.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert all(kernel.is_contiguous(memory_format=layout) for kernel in kernels)


def test_autocast_computes_products_in_the_chosen_format_and_leaves_no_trace() -> None:
    rows = torch.ones(2, 2)
    with autocast("bf16", CPU):
        assert (rows @ rows).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert (rows @ rows).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_bfloat16_is_close_to_float32_for_an_encoder() -> None:
    network, images = encoder("vit_tiny").eval(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = network(images)
        with autocast("bf16", CPU):
            rough = network(images)
    assert torch.nn.functional.cosine_similarity(exact, rough.float()).min() > 0.999
