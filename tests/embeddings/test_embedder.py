"""The transformer of scikit-learn: the same numbers as `embed`, and what scikit-learn asks of any transformer."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks, get_tags

from stillhouse import Embedder
from stillhouse.embeddings.reader import Reader
from stillhouse.errors import DataError, RunError, SettingsError, StillhouseError
from tests.embeddings.conftest import picture, write_encoder

WITHOUT_IMAGES: tuple[Callable[[str, Any], None], ...] = (
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_tags_renamed,
    estimator_checks.check_valid_tag_types,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
    estimator_checks.check_mixin_order,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params,
)
"""Checks that give an estimator no rows of numbers to learn from; `check_estimator` leaves out all of them as soon as
the tags say that its input is not of that kind."""


@pytest.fixture
def embedder(encoder_folder: Path) -> Embedder:
    return Embedder(str(encoder_folder), device="cpu")


@pytest.fixture
def paths(pictures: Path) -> list[str]:
    return sorted(map(str, pictures.glob("*/*.png")))


def as_arrays(paths: list[str]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(path)) for path in paths])


@pytest.mark.parametrize("check", WITHOUT_IMAGES, ids=lambda check: check.__name__)
def test_what_scikit_learn_asks(check: Callable[[str, Any], None]) -> None:
    check("Embedder", Embedder())


def test_the_suite_of_scikit_learn_has_nothing_to_complain(embedder: Embedder) -> None:
    """No check is expected to fail: the tags tell that rows of numbers are no images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        told = estimator_checks.check_estimator(embedder, on_fail="raise")
    assert told
    assert all(result["status"] == "passed" for result in told)
    tags = get_tags(embedder).input_tags
    assert (tags.one_d_array, tags.two_d_array, tags.string) == (True, False, True)


def test_all_forms_of_images_give_the_numbers_of_embed(
    reader: Reader, embedder: Embedder, pictures: Path, paths: list[str]
) -> None:
    expected = next(iter(reader.parts(reader.open(str(pictures))))).vectors.numpy()
    forms: list[Any] = [
        paths,
        np.array(paths),
        [Path(path) for path in paths],
        [Image.open(path) for path in paths],
        as_arrays(paths),
        list(as_arrays(paths)),
    ]
    for images in forms:
        found = embedder.fit_transform(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_rows_depend_on_their_image_alone(embedder: Embedder, paths: list[str]) -> None:
    """scikit-learn's invariance of order, subset and repetition, with images."""
    images = [*as_arrays(paths[:5]), np.asarray(Image.fromarray(picture(1)).resize((40, 30)))]
    whole = embedder.fit(images).transform(images)
    np.testing.assert_allclose(embedder.transform(images[::-1]), whole[::-1], atol=1e-6)
    singly = np.concatenate([embedder.set_params(batch_size=1).transform([image]) for image in images])
    np.testing.assert_allclose(singly, whole, atol=1e-6)
    np.testing.assert_array_equal(embedder.transform(images), embedder.fit_transform(images))
    assert embedder.transform([]).shape == (0, whole.shape[1])


def test_names_and_clones(embedder: Embedder, paths: list[str]) -> None:
    other = clone(embedder.set_params(exit=1))
    assert other.get_params() == embedder.get_params()
    with pytest.raises(NotFittedError):
        other.transform(paths)
    width = other.fit(paths).transform(paths[:2]).shape[1]
    assert list(other.get_feature_names_out()) == [f"embedder{number}" for number in range(width)]
    assert other.set_output(transform="default") is other


def test_pickles_hold_the_path_and_no_weights(embedder: Embedder, paths: list[str], tmp_path: Path) -> None:
    write_encoder(tmp_path / "own")
    embedder.set_params(encoder=str(tmp_path / "own"))
    expected = embedder.fit(paths).transform(paths[:3])
    packed = pickle.dumps(embedder)
    assert len(packed) < 1000
    np.testing.assert_array_equal(pickle.loads(packed).transform(paths[:3]), expected)
    write_encoder(tmp_path / "own", seed=1)
    with pytest.raises(RunError, match=r"weights of .*own changed since it was fitted; fit it again"):
        pickle.loads(packed).transform(paths[:3])


def test_in_a_pipeline(embedder: Embedder, paths: list[str]) -> None:
    """With labels that are in the picture, so that more than chance is reached."""
    images = as_arrays(paths) // 2
    truth = np.arange(len(images)) % 2
    images[truth == 1, ..., 0] += 120
    pipeline = make_pipeline(embedder, LogisticRegression(C=100, max_iter=1000))
    assert cross_val_score(pipeline, images, truth, cv=3).mean() > 0.8
    search = GridSearchCV(pipeline, {"embedder__exit": [1, 2]}, cv=2).fit(list(images), truth)
    assert search.predict(list(images)).shape == truth.shape


@pytest.mark.parametrize(
    ("images", "kind", "told"),
    [
        ("a.png", SettingsError, r"X: one str; give a list of images"),
        (np.zeros((4, 12)), SettingsError, r"X: an array \[4, 12\] of float64"),
        (np.zeros((2, 8, 8, 3)), SettingsError, r"X: an array \[2, 8, 8, 3\] of float64"),
        (["nowhere.png"], DataError, r"X: image 0 \('nowhere.png'\) cannot be read \(No such file"),
        ([3.5], DataError, r"X: image 0 cannot be read \(float is neither a path nor a picture\)"),
        ([np.zeros((8, 8), np.uint8)], DataError, r"X: image 0 .*not uint8 \[H, W, 3\]"),
    ],
)
def test_what_is_no_image_is_told(embedder: Embedder, images: Any, kind: type[StillhouseError], told: str) -> None:
    with pytest.raises(kind, match=told):
        embedder.fit(images).transform(images)


def test_what_is_no_encoder_is_told(tmp_path: Path) -> None:
    for wrong, kind, told in (
        (Embedder(), SettingsError, "none named"),
        (Embedder(tmp_path), RunError, "no encoder found"),
        (Embedder(tmp_path / "no"), RunError, "does not exist"),
        (Embedder(tmp_path, batch_size=0), SettingsError, "batch_size"),
    ):
        with pytest.raises(kind, match=told):
            wrong.fit([])
