"""Fine-tuning and distillation as SimCLRv2 has them."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from stillhouse.data.labels import Labels
from stillhouse.data.stream import Batch
from stillhouse.errors import SettingsError
from stillhouse.losses.contrastive import nt_xent, nt_xent_with_memory
from stillhouse.losses.logits import labelled_cross_entropy, soft_cross_entropy
from stillhouse.methods.distill import Distill, DistillConfig
from stillhouse.methods.finetune import FineTune, FineTuneConfig
from stillhouse.methods.simclr import SimCLR
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.classifier import Classifier
from stillhouse.networks.heads import first_layers, mlp
from stillhouse.networks.teacher import FrozenTeacher
from stillhouse.training.optimizers import decay_groups, make_optimizer, set_learning_rate
from tests.methods.conftest import CLASSES, MakeMethod, known_labels, random_batch
from tests.methods.test_contract import learn

BATCH = random_batch(views=1)
KNOWN = known_labels()


def network(seed: int = 0) -> Classifier:
    encoder = build_encoder(EncoderConfig(name="resnet10", image_size=16), seed)
    return Classifier(encoder, nn.Sequential(), CLASSES, zero_output=False)


def scores_of(teacher: FrozenTeacher, view: Tensor) -> Tensor:
    return teacher.classify(teacher(view))


def distill(labels: Labels | None = None, teacher: Classifier | None = None, **settings: float) -> Distill:
    torch.manual_seed(1)
    named = teacher or network()
    frozen = FrozenTeacher(named.encoder, classifier=named.scorer, classes=named.classes)
    return Distill(DistillConfig(**settings), network(2).encoder, frozen, labels or KNOWN)  # type: ignore[arg-type]


def test_memory_only_adds_to_the_denominators() -> None:
    draw = torch.Generator().manual_seed(0)
    first, second, memory = (torch.randn(n, 6, dtype=torch.float64, generator=draw) for n in (4, 4, 9))
    rows = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    kept = torch.nn.functional.normalize(memory, dim=1)
    slow = 0.0
    for place, row in enumerate(rows):
        others = [other for number, other in enumerate(rows) if number != place]
        total = sum((row @ other / 0.3).exp() for other in [*others, *kept])
        slow -= (row @ rows[(place + 4) % 8] / 0.3 - total.log()).item() / 8
    assert nt_xent_with_memory(first, second, memory, 0.3).item() == pytest.approx(slow)
    assert nt_xent_with_memory(first, second, memory, 0.3) > nt_xent(first, second, 0.3)
    same = torch.ones(4, 6, dtype=torch.float64)
    assert nt_xent_with_memory(same, same, same, 0.3).item() == pytest.approx(math.log(2 * 4 - 1 + 4))
    far = nt_xent_with_memory(same, same, -same[:1], 0.1) - nt_xent(same, same, 0.1)
    assert 0 <= far.item() < 1e-8
    memory.requires_grad_()
    nt_xent_with_memory(first.requires_grad_(), second, memory, 0.3).backward()
    assert memory.grad is None


def test_the_memory_is_filled_by_the_moving_average_and_is_exact_after_a_pause(make_method: MakeMethod) -> None:
    settings = {"memory_size": 40, "memory_momentum": 0.5, "published_projector": True}
    whole = make_method("simclr", **settings)
    straight = learn(whole, 4)
    first, second = make_method("simclr", **settings), make_method("simclr", seed=9, **settings)
    optimizers = [torch.optim.AdamW(decay_groups(method, 0.1), lr=1e-3) for method in (first, second)]
    losses = learn(first, 2, optimizers[0])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    assert losses + learn(second, 2, optimizers[1], start=2) == straight
    assert straight != learn(make_method("simclr", published_projector=True), 4)
    assert isinstance(first, SimCLR)
    assert first.memory.position.item() == 32  # two steps of two views of eight images
    batch = random_batch(seed=5)
    wanted = copy.deepcopy(first.teacher)(torch.cat(batch.views))
    first(batch, 0.0)
    first.after_step(0.0)
    rows = first.memory.rows[torch.arange(32, 48) % 40]
    torch.testing.assert_close(rows, torch.nn.functional.normalize(wanted, dim=1))


def test_a_zero_output_layer_starts_at_log_c_and_shields_the_encoder_for_one_step(make_method: MakeMethod) -> None:
    method = make_method("simclrv2-finetune", zero_output=True)
    assert isinstance(method, FineTune)
    labels = method.labels[BATCH.index]
    images = Batch((BATCH.views[0][labels >= 0],), BATCH.index[labels >= 0])
    loss = method(images, 0.0)["classes"]
    assert loss.item() == pytest.approx(math.log(3), abs=1e-6)
    loss.backward()
    assert not any(p.grad.any() for p in method.encoder.parameters() if p.grad is not None)
    assert method.classifier.output.weight.grad is not None
    assert method.classifier.output.weight.grad.any()


def test_only_labelled_images_are_drawn(make_method: MakeMethod) -> None:
    rows = make_method("simclrv2-finetune").rows
    assert rows is not None
    assert rows.tolist() == [row for row in range(64) if row % 4 != 3]
    assert make_method("simclrv2-distill").rows is None


def test_a_kept_head_that_does_not_train_keeps_its_weights() -> None:
    encoder = network().encoder
    head = first_layers(mlp([512, 24, 8], output_norm=True), 1)
    method = FineTune(FineTuneConfig(train_head=False), encoder, head, KNOWN)
    assert not any(p.requires_grad for p in method.classifier.head.parameters())
    assert method.classifier.head.training  # its statistics follow the batch


def test_labels_of_one_class_are_refused() -> None:
    labels = Labels(torch.tensor([0, -1, 0]), ("a",))
    with pytest.raises(SettingsError, match="learns from labels, and 1 classes have any"):
        FineTune(FineTuneConfig(head_layer=0), network().encoder, nn.Sequential(), labels)


def test_without_label_weight_the_loss_is_distillation_and_with_all_of_it_cross_entropy() -> None:
    method, (view,) = distill(label_weight=0.0), BATCH.views
    terms = method(BATCH, 0.0)
    assert list(terms) == ["teacher"]
    assert torch.equal(terms["teacher"], soft_cross_entropy(method.student(view), scores_of(method.teacher, view), 1.0))
    supervised = distill(label_weight=1.0)
    terms = supervised(BATCH, 0.0)
    labels = torch.tensor([0, 1, 2, -1, 0, 1, 2, -1])
    assert torch.equal(terms["labels"], labelled_cross_entropy(supervised.student(view), labels))
    assert terms["teacher"].item() == 0


def test_mixed_terms_are_the_papers_equation() -> None:
    method, (view,) = distill(label_weight=0.25, temperature=0.5), BATCH.views
    terms = method(BATCH, 0.0)
    own, taught = method.student(view).double().detach(), scores_of(method.teacher, view).double()
    known = soft = 0.0
    for place, label in enumerate([0, 1, 2, -1, 0, 1, 2, -1]):
        known -= own[place].log_softmax(0)[label].item() if label >= 0 else 0.0
        soft -= ((taught[place] / 0.5).softmax(0) * (own[place] / 0.5).log_softmax(0)).sum().item()
    assert terms["labels"].item() == pytest.approx(0.25 * known / 8, rel=1e-4)
    assert terms["teacher"].item() == pytest.approx(0.75 * soft / 8, rel=1e-4)


def test_the_factor_of_the_notebook() -> None:
    plain, scaled = (distill(temperature=0.5, scale_by_tau2=flag)(BATCH, 0.0)["teacher"] for flag in (False, True))
    assert scaled.item() == pytest.approx(0.25 * plain.item())


def test_a_step_leaves_the_teacher_as_it_was() -> None:
    method = distill()
    before = {name: value.clone() for name, value in method.teacher.encoder.state_dict().items()}
    scores = scores_of(method.teacher, BATCH.views[0])
    torch.stack(list(method.train()(BATCH, 0.0).values())).sum().backward()
    torch.optim.SGD(method.parameters(), 0.1).step()
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.encoder.state_dict().items())
    assert torch.equal(scores_of(method.teacher, BATCH.views[0]), scores)
    assert not any(name.startswith("teacher") for name in method.state_dict())


def test_labels_are_matched_to_the_teachers_classes_by_name() -> None:
    numbers = torch.tensor([0, 1, -1])
    assert distill(Labels(numbers, ("c", "a")), label_weight=0.5).labels.tolist() == [2, 0, -1]
    for labels, told in (
        (Labels(numbers, ("a", "gnu")), r"teacher.source: 1 classes of the images are unknown to it \(gnu\)"),
        (Labels(torch.full((3,), -1), ()), "method.label_weight: no image has a label"),
    ):
        with pytest.raises(SettingsError, match=told):
            distill(labels, label_weight=0.5)
        distill(labels, label_weight=0.0)


def test_no_known_label_is_no_loss() -> None:
    scores = torch.randn(4, 3, requires_grad=True)
    loss = labelled_cross_entropy(scores, torch.full((4,), -1))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_lars_neither_decays_nor_adapts_the_last_layer() -> None:
    method = network()
    before = {name: value.clone() for name, value in method.named_parameters()}
    method(BATCH.views[0]).square().sum().backward()
    optimizer = make_optimizer("lars", method, weight_decay=0.1, momentum=0.9, decay_all=False)
    set_learning_rate(optimizer, 0.5)
    optimizer.step()
    taken = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(taken) == sorted(map(id, method.parameters()))
    for name in ("output.weight", "output.bias"):
        now = method.get_parameter(name)
        assert now.grad is not None
        torch.testing.assert_close(now, before[name] - 0.5 * now.grad)
    inner = method.get_parameter("encoder.network.conv1.weight")
    old = before["encoder.network.conv1.weight"]
    torch.testing.assert_close((inner - old).norm(), 0.5e-3 * old.norm(), rtol=1e-3, atol=0)


def test_classes_without_names_are_taken_for_those_of_the_images_where_there_are_as_many() -> None:
    named = network()
    frozen = FrozenTeacher(named.encoder, classifier=named.scorer)
    for labels, classes in ((KNOWN, CLASSES), (Labels(torch.full((64,), -1), ()), ("0", "1", "2"))):
        assert Distill(DistillConfig(), network(2).encoder, frozen, labels).classifier.classes == classes
    with pytest.raises(SettingsError, match=r"^teacher\.source: it has no classifier"):
        Distill(DistillConfig(), network(2).encoder, FrozenTeacher(named.encoder), KNOWN)
