"""CRD with classes: a slow loop of all its terms, its weights, and teachers that do not fit."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stillhouse.data.candidates import class_candidates, class_groups
from stillhouse.data.labels import Labels
from stillhouse.errors import SettingsError
from stillhouse.methods.crd_supervised import CRDSupervised, CRDSupervisedConfig
from stillhouse.methods.partners import PartnerSearch
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.teacher import FrozenTeacher
from tests.methods.conftest import random_batch

LABELS = Labels(torch.tensor([0, 1, 2, -1, 2, 0, 1, 1, 0, 2, 1, 0]), ("a", "b", "c"))


def teacher(seed: int, classes: int = 3) -> FrozenTeacher:
    classifier = nn.Linear(512, classes) if classes else None
    return FrozenTeacher(build_encoder(EncoderConfig(name="resnet10", image_size=16), seed), classifier=classifier)


def made(*teachers: FrozenTeacher, labels: Labels = LABELS, **settings: Any) -> CRDSupervised:
    config = CRDSupervisedConfig(
        **{"num_images": 12, "num_negatives": 5, "output_dim": 4, "temperature": 0.5, **settings}
    )
    return CRDSupervised(config, build_encoder(EncoderConfig(name="resnet10", image_size=16)), teachers, labels)


def slow_search(search: PartnerSearch, own: Tensor, wanted: Tensor, candidates: Tensor) -> tuple[float, float]:
    """Both terms for B images, by the equations: scores, their mean as the unit, one logarithm for every candidate."""
    sums = []
    for vectors, layer, bank in (
        (own, search.student_projector, search.teacher_bank),
        (wanted, search.teacher_projector, search.student_bank),
    ):
        anchors = [row / row.norm() for row in layer(vectors)]
        scores = [[(anchors[i] @ bank.rows[j] / 0.5).exp() for j in row] for i, row in enumerate(candidates)]
        mean = torch.tensor(scores, dtype=torch.float64).mean()
        num_images, noise, total = len(bank.rows), 5 / len(bank.rows), 0.0
        for row in scores:
            for k, score in enumerate(row):
                share = float(score / (mean * num_images))
                total -= math.log((noise if k else share) / (share + noise + 1e-7))
        sums.append(total / len(scores))
    return sums[0], sums[1]


def test_all_terms_equal_a_slow_loop_with_two_teachers() -> None:
    weights: dict[str, Any] = {"cross_entropy_weight": 0.7, "distillation_weight": 0.9, "contrast_weight": 0.8}
    teachers = teacher(1), teacher(2)
    method = made(*teachers, teacher_weights=(1.0, 2.0), **weights).double().eval()
    batch = random_batch(views=1)
    view, index = batch.views[0].double(), batch.index
    terms = method(type(batch)((view,), index), 0.5)
    with torch.no_grad():
        own, scores = method.encoder(view), method.student(view)
        wanted = [each(view) for each in teachers]
        classified = torch.stack([t.classify(w) for t, w in zip(teachers, wanted, strict=True)]).mean(0)
        entropy, distilled, known = 0.0, 0.0, 0
        for i, (row, told) in enumerate(zip(scores, classified, strict=True)):
            label = int(LABELS.of[index[i]])
            if label >= 0:
                entropy, known = entropy - float(row.softmax(0)[label].log()), known + 1
            p, q = (told / 4).softmax(0), (row / 4).softmax(0)
            distilled += 16 / len(scores) * float((p * (p / q).log()).sum())
        candidates = class_candidates(index, class_groups(LABELS), 5, 0, "exact")
        searched = [
            slow_search(search, own, each, candidates)  # type: ignore[arg-type]
            for search, each in zip(method.partners.searches, wanted, strict=True)
        ]
    assert known == 7
    assert terms["cross_entropy"].item() == pytest.approx(0.7 * entropy / known, abs=1e-9)
    assert terms["distillation"].item() == pytest.approx(0.9 * distilled, abs=1e-9)
    assert terms["student_anchor"].item() == pytest.approx(0.8 * (searched[0][0] + 2 * searched[1][0]), abs=1e-9)
    assert terms["teacher_anchor"].item() == pytest.approx(0.8 * (searched[0][1] + 2 * searched[1][1]), abs=1e-9)


def test_published_weights_and_no_distillation_unless_asked() -> None:
    config = CRDSupervisedConfig()
    weights = (config.cross_entropy_weight, config.distillation_weight, config.contrast_weight)
    assert (*weights, config.distillation_temperature) == (1.0, 0.0, 0.8, 4.0)
    terms = made(teacher(1, classes=0))(random_batch(views=1), 0.5)
    assert set(terms) == {"cross_entropy", "student_anchor", "teacher_anchor"}


def test_the_classifier_learns_from_known_labels_alone() -> None:
    unknown = Labels(torch.tensor([-1] * 8 + [0, 1, 2, 0]), LABELS.classes)
    method = made(teacher(1), labels=unknown)
    terms = method(random_batch(views=1), 0.5)
    assert terms["cross_entropy"].item() == 0
    terms["cross_entropy"].backward()
    assert method.student.output.weight.grad is not None
    assert not method.student.output.weight.grad.any()


def test_distillation_moves_the_student_and_no_teacher() -> None:
    method = made(teacher(1), distillation_weight=1.0)
    method(random_batch(views=1), 0.5)["distillation"].backward()
    assert all(p.grad is not None for p in method.encoder.parameters())
    (held,) = method.teachers
    assert isinstance(held, FrozenTeacher)
    assert all(p.grad is None and not p.requires_grad for m in held._classifier for p in m.parameters())


def test_relax_stores_under_the_images_own_place() -> None:
    method = made(teacher(1), positive="relax", momentum=0.0)
    (search,) = method.partners.searches
    assert isinstance(search, PartnerSearch)
    bank = search.student_bank
    before = bank.rows.clone()
    method(random_batch(views=1, images=3), 0.5)
    method.after_step(0.5)
    changed = (bank.rows != before).any(1)
    assert changed.tolist() == [True] * 3 + [False] * 9


@pytest.mark.parametrize(
    ("settings", "classes", "told"),
    [
        ({"distillation_weight": 1.0}, 0, r"method\.distillation_weight: 1, but teacher 2 has no linear classifier"),
        ({"distillation_weight": 1.0}, 4, r"teacher 2 tells 4 classes and the images have 3"),
        ({"num_images": 11}, 3, r"method\.num_images: 11, but 12 labels"),
    ],
)
def test_what_does_not_belong_together_is_told(settings: dict[str, Any], classes: int, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        made(teacher(1), teacher(2, classes), **settings)


def test_images_of_one_class_are_refused() -> None:
    with pytest.raises(SettingsError, match="learns from labels, and 1 classes have any"):
        made(teacher(1), labels=Labels(torch.zeros(12, dtype=torch.int64), ("a",)))
