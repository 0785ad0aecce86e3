"""What a view is: the settings of random versions of an image, and the plans that published methods use."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from stillhouse.errors import SettingsError

Interpolation = Literal["bicubic", "bilinear"]
Probability = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Gt(0), Le(1)]
Strength = Annotated[float, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class View:
    """How `count` random versions of an image are made; the defaults are SimCLR's, at colour strength 1.

    In this order: random resized crop, horizontal flip, colour jitter (its four parts in random order), grayscale,
    Gaussian blur, solarization.

    Args:
        count: views drawn with these settings.
        size_fraction: side of the view over the encoder's image size; see `size`.
        min_area: smallest share of the image's area that a crop covers.
        max_area: largest share.
        aspect: smallest and largest width over height of a crop, drawn log-uniformly.
        interpolation: how a crop is resized, always with antialiasing.
        flip: probability of a horizontal flip.
        jitter: probability of colour jitter.
        brightness: half-width of the factor's range around 1, as `contrast` and `saturation`; factors stay above 0.
        contrast: see `brightness`.
        saturation: see `brightness`.
        hue: largest turn of the hue in either direction, in turns.
        grayscale: probability of losing colour.
        blur: probability of Gaussian blur.
        blur_sigma: smallest and largest standard deviation, in pixels of the view.
        blur_kernel: width of the blur in pixels, odd; 0 follows the view, about a tenth of its side.
        solarize: probability of inverting what is bright.
        solarize_threshold: brightness from which it is inverted, in [0, 1].

    Raises:
        ValueError: a range is upside down or the kernel is even.
    """

    count: Annotated[int, Ge(1)] = 1
    size_fraction: Share = 1.0
    min_area: Share = 0.08
    max_area: Share = 1.0
    aspect: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bicubic"
    flip: Probability = 0.5
    jitter: Probability = 0.8
    brightness: Strength = 0.8
    contrast: Strength = 0.8
    saturation: Strength = 0.8
    hue: Annotated[float, Ge(0), Le(0.5)] = 0.2
    grayscale: Probability = 0.2
    blur: Probability = 0.5
    blur_sigma: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.1, 2.0)
    blur_kernel: Annotated[int, Ge(0)] = 0
    solarize: Probability = 0.0
    solarize_threshold: Probability = 0.5

    def __post_init__(self) -> None:
        if self.min_area > self.max_area:
            raise ValueError(f"min_area: {self.min_area} is above max_area, {self.max_area}; lower it")
        for name, (low, high) in (("aspect", self.aspect), ("blur_sigma", self.blur_sigma)):
            if low > high:
                raise ValueError(f"{name}: {low} is above {high}; give the smaller number first")
        if self.blur_kernel and self.blur_kernel % 2 == 0:
            raise ValueError(f"blur_kernel: {self.blur_kernel} is even; choose an odd number, or 0 to follow the view")

    def size(self, image_size: int) -> int:
        """Side of the view in pixels; a part of `image_size` is rounded to a multiple of 8, so that patches fit."""
        if self.size_fraction == 1.0:
            return image_size
        return max(8, 8 * round(self.size_fraction * image_size / 8))

    def kernel(self, image_size: int) -> int:
        """Width of the blur in pixels: odd, and at most what reflection at the border allows."""
        size = self.size(image_size)
        return min(self.blur_kernel or max(3, int(0.1 * size) | 1), 2 * size - 1)


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """All views that a method wants of every image, in this order; a `View` with a count stands for that many.

    Without any view it stands for whatever plan suits the image size (`or_else`).
    """

    views: tuple[View, ...] = ()

    def or_else(self, plan: "ViewPlan") -> "ViewPlan":
        """This plan, or the other one where this one names no view."""
        return self if self.views else plan

    def of(self, *counts: int) -> "ViewPlan":
        """This plan, if it has as many views as a method can use.

        Raises:
            SettingsError: it has another number of views.
        """
        if self.num_views not in counts:
            told = " or ".join(map(str, counts))
            raise SettingsError(
                f"method.views: {self.num_views} views of each image, and this method uses {told}; "
                "change their count, or leave them out"
            )
        return self

    @property
    def num_views(self) -> int:
        """Views of each image."""
        return sum(view.count for view in self.views)

    def sizes(self, image_size: int) -> tuple[int, ...]:
        """Side in pixels of each of the `num_views` views."""
        return tuple(view.size(image_size) for view in self.views for _ in range(view.count))

    def num_large(self, image_size: int) -> int:
        """How many views, counted from the first, are of the first one's size: those that a teacher sees of many crops.

        Raises:
            SettingsError: there is only one view, and nothing to compare it with.
        """
        sizes = self.sizes(image_size)
        if len(sizes) < 2:
            raise SettingsError(
                "method.views: one view of each image, and this method compares views; name two or more"
            )
        return next((number for number, size in enumerate(sizes) if size != sizes[0]), len(sizes))


FOLLOW_IMAGES = ViewPlan()
"""Stands for whatever plan suits the image size."""

PAIR = ViewPlan(views=(View(count=2),))
"""SimCLR at colour strength 1: two views alike (Chen et al. 2020, official code)."""

CIFAR_PAIR = ViewPlan(views=(View(count=2, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=0.0),))
"""SimCLR on CIFAR-10: colour strength 0.5, no blur (official command)."""

ASYMMETRIC_PAIR = ViewPlan(
    views=(
        View(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=1.0),
        View(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=0.1, solarize=0.2),
    )
)
"""BYOL, MoCo v3 and SDSSL in all its forms: one view always blurred, one sometimes solarized (Grill et al. 2020)."""

CIFAR_ASYMMETRIC_PAIR = ViewPlan(
    views=(
        View(min_area=0.2, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=0.0),
        View(min_area=0.2, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=0.0, solarize=0.2),
    )
)
"""`ASYMMETRIC_PAIR` for images of about 32 pixels: larger crops, no blur (as solo-learn; the crop area is ours)."""

WEAK = ViewPlan(views=(View(min_area=0.2, jitter=0.0, grayscale=0.0, blur=0.0),))
"""SimReg and CompRess: one view, only cropped and flipped."""

CROP_AND_FLIP = ViewPlan(views=(View(jitter=0.0, grayscale=0.0, blur=0.0),))
"""SimCLRv2's fine-tuning and distillation: one view, cropped as in SimCLR and flipped (official code)."""

SINGLE = ViewPlan(views=(View(min_area=0.2, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),))
"""SEED with a teacher of MoCo v2: one of its views (official code)."""

CIFAR_SINGLE = ViewPlan(views=(View(min_area=0.2, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=0.0),))
"""`SINGLE` for images of about 32 pixels: no blur."""

FOUR = ViewPlan(views=(View(count=4),))
"""DoGo at 224 pixels: each of two peers draws its own SimCLR pair; views 0 and 1 are the first peer's."""

CIFAR_FOUR = ViewPlan(views=(View(count=4, blur=0.0),))
"""DoGo below 224 pixels: `FOUR` without blur; the colour strength stays 1."""

MULTI_CROP = ViewPlan(
    views=(
        View(min_area=0.4, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=1.0),
        View(min_area=0.4, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=0.1, solarize=0.2),
        View(
            count=8, size_fraction=96 / 224, min_area=0.05, max_area=0.4,
            brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=0.5,
        ),
    )
)  # fmt: skip
"""DINO and EsViT: two global views, then eight small local ones (official code)."""

SMALL_MULTI_CROP = ViewPlan(
    views=(
        View(min_area=0.4, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=0.0),
        View(min_area=0.4, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=0.0, solarize=0.2),
        View(
            count=6, size_fraction=0.5, min_area=0.05, max_area=0.4,
            brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=0.0,
        ),
    )
)  # fmt: skip
"""`MULTI_CROP` for small images: no blur, six local views of half the side (ours)."""

SMALL_IMAGE_SIZE = 64
"""Up to this many pixels a blurred view has too little left to see, and colour says more than shape."""


def pair_for(image_size: int) -> ViewPlan:
    """SimCLR's two views for images of this size."""
    return CIFAR_PAIR if image_size <= SMALL_IMAGE_SIZE else PAIR


def multi_crop_for(image_size: int) -> ViewPlan:
    """DINO's large and small views for images of this size."""
    return SMALL_MULTI_CROP if image_size <= SMALL_IMAGE_SIZE else MULTI_CROP


def single_for(image_size: int) -> ViewPlan:
    """SEED's one view for images of this size."""
    return CIFAR_SINGLE if image_size <= SMALL_IMAGE_SIZE else SINGLE


def four_for(image_size: int) -> ViewPlan:
    """DoGo's four views for images of this size."""
    return CIFAR_FOUR if image_size < 224 else FOUR


def asymmetric_pair_for(image_size: int) -> ViewPlan:
    """BYOL's two views for images of this size."""
    return CIFAR_ASYMMETRIC_PAIR if image_size <= SMALL_IMAGE_SIZE else ASYMMETRIC_PAIR
