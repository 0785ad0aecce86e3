"""EsViT's two heads and centers, its views of two sizes, and the head that rests."""

import math

import pytest
import torch

from stillhouse.data.stream import Batch
from stillhouse.errors import SettingsError
from stillhouse.methods.dino import DINO, DINOConfig
from stillhouse.methods.esvit import EsViT, EsViTConfig
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.encoder import joined_by_size
from stillhouse.networks.heads import PrototypeHead
from tests.methods.conftest import MakeMethod
from tests.methods.test_contract import learn, total


def crops(method: EsViT | DINO, images: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    sizes = method.views.sizes(16)
    return Batch(tuple(torch.rand(images, 3, s, s, generator=generator) for s in sizes), torch.arange(images))


def made(make_method: MakeMethod, encoder: str = "swin_nano", **settings: float) -> EsViT:
    method = make_method("esvit", encoder, **settings)
    assert isinstance(method, EsViT)
    return method


@pytest.mark.parametrize("encoder", ["resnet10", "swin_nano"])
def test_views_and_regions_of_two_sizes_come_back_in_their_order(encoder: str, make_method: MakeMethod) -> None:
    method = made(make_method, encoder).eval()
    batch = crops(method)
    assert [view.shape[-1] for view in batch.views] == [16, 16] + [8] * 6
    assert [len(joined) for joined in joined_by_size(batch.views)] == [8, 24]
    assert method.num_large == 2
    network = method.student
    seen = network.see(batch.views, learn_prototypes=True, regions=True)
    for view, scores, regions in zip(batch.views, seen.views, seen.regions, strict=True):
        features = network.encoder.features(view)
        torch.testing.assert_close(scores, network.projector(features.pooled))
        torch.testing.assert_close(regions.features, features.tokens)
        torch.testing.assert_close(regions.scores, network.region_projector(features.tokens))
    assert seen.regions[0].scores.shape[1] == 4 * seen.regions[2].scores.shape[1]


def test_views_alone_are_dino(make_method: MakeMethod) -> None:
    other = make_method("dino", "swin_nano", teacher_temperature=0.07)
    method = made(make_method, learn_prototype_norm=False)
    assert isinstance(other, DINO)
    other.student.encoder.load_state_dict(method.student.encoder.state_dict())
    other.student.projector.load_state_dict(method.student.projector.state_dict())
    other.teacher.follow(other.student, 0.0)
    batch = crops(method)
    assert method(batch, 0.5)["views"].item() == pytest.approx(0.5 * other(batch, 0.5)["views"].item(), rel=1e-5)


def test_equal_scores_give_the_published_values(make_method: MakeMethod) -> None:
    for weights, expected in (((0.5, 0.5), math.log(24)), ((1.0, 1.0), 2 * math.log(24))):
        method = made(make_method, view_weight=weights[0], region_weight=weights[1])
        for network in (method.student, method.teacher.module):
            for head in (network.projector, network.region_projector):
                torch.nn.init.zeros_(head.lengths)
        assert total(method(crops(method), 0.5)).item() == pytest.approx(expected, rel=1e-5)


def test_each_center_is_of_both_large_views_and_the_old_one_is_used(make_method: MakeMethod) -> None:
    method = made(make_method)
    batch = crops(method)
    first = method(batch, 0.5)
    again = method(batch, 0.5)
    assert all(first[name].item() == again[name].item() for name in first)
    network = method.teacher.module
    features = network.encoder.features(torch.cat(batch.views[:2]))
    method.center.advance()
    method.region_center.advance()
    torch.testing.assert_close(method.center.value, 0.1 * network.projector(features.pooled).mean(0))
    torch.testing.assert_close(method.region_center.value, 0.1 * network.region_projector(features.tokens).mean((0, 1)))
    moved = method(batch, 0.5)
    assert all(first[name].item() != moved[name].item() for name in first)


def test_the_second_head_rests_until_regions_count(make_method: MakeMethod) -> None:
    method = made(make_method, region_start=0.2)
    heads = (method.student.region_projector, method.teacher.module.region_projector)
    start = {name: weight.clone() for name, weight in heads[0].state_dict().items()}
    terms = method(crops(method), 0.1)
    assert terms["regions"].item() == 0.0
    total(terms).backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in heads[0].parameters())
    method.zero_grad()
    learn(method, 2)
    assert all(torch.equal(weight, start[name]) for head in heads for name, weight in head.state_dict().items())
    assert not method.region_center.value.any()
    learn(method, 1, start=2)
    assert method.region_center.value.any()
    assert not torch.equal(heads[0].directions, start["directions"])


def test_prototypes_of_both_heads_rest_at_first(make_method: MakeMethod) -> None:
    for progress, learns in ((0.0, False), (0.5, True)):
        method = made(make_method)
        total(method(crops(method), progress)).backward()
        for head in (method.student.projector, method.student.region_projector):
            for weight in (head.directions, head.lengths):
                assert weight.grad is not None
                assert bool(weight.grad.any()) == learns
            assert all(
                parameter.grad is not None and parameter.grad.any() for parameter in head.perceptron.parameters()
            )


def test_the_teacher_follows_and_its_encoder_is_kept(make_method: MakeMethod) -> None:
    method = made(make_method)
    assert method.encoder is method.teacher.module.encoder
    assert method.momentum(0.0) == pytest.approx(0.996)
    assert method.momentum(1.0) == pytest.approx(1.0)
    temperatures = [round(method.temperature(progress), 4) for progress in (0.0, 0.05, 0.1, 1.0)]
    assert temperatures == [0.04, 0.055, 0.07, 0.07]


def test_a_published_head_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        head = PrototypeHead([768, 2048, 2048, 256], 65536, learn_norm=True)
    assert sum(weight.numel() for weight in head.parameters()) == 23_138_560


def test_an_encoder_with_one_region_is_refused() -> None:
    for name, size in (("resnet10", 8), ("timm:test_resnet", 32)):
        encoder = build_encoder(EncoderConfig(name=name, image_size=size))
        with pytest.raises(SettingsError, match=rf"encoder.image_size: at {size} px .* has one region"):
            EsViT(EsViTConfig(num_prototypes=8), encoder)
    assert DINO(DINOConfig(num_prototypes=8), encoder)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "pvt_v2_b0"])
def test_multi_stage_networks_of_timm_learn_from_views_of_two_sizes(name: str) -> None:
    method = EsViT(EsViTConfig(num_prototypes=8), build_encoder(EncoderConfig(name=f"timm:{name}", image_size=64)))
    views = tuple(torch.rand(1, 3, size, size) for size in method.views.sizes(64))
    terms = method(Batch(views, torch.arange(1)), 0.5)
    total(terms).backward()
    learning = [weight for weight in method.parameters() if weight.requires_grad]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in learning)
