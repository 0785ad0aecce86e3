"""From encoded bytes to square pixels, with Pillow; what cannot be decoded faithfully is refused with a reason."""

import io
import struct
import warnings
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

T = TypeVar("T")

MAX_PIXELS = 90_000_000
SHRINK_GAP = 2.0
FORMATS = ("JPEG", "PNG", "WEBP", "MPO", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(ValueError):  # noqa: N818  # a fact about an image, kept rather than shown
    """An image that cannot be used; the text is the reason."""


def decode(content: bytes, size: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode one image, squashed to a square.

    Orientation from EXIF is applied, transparency lies over white, 16-bit values are scaled, the first frame of an
    animation counts, and gray becomes RGB. Shrinking averages over what it leaves out (no aliasing); an image that has
    the wanted size already keeps its pixels.

    Args:
        content: the encoded file.
        size: side S of the result, in pixels.

    Returns:
        pixels, uint8 [S, 3, S] (rows, channels, columns), and height and width of the upright original in pixels.

    Raises:
        BadImage: empty, unknown, truncated, too large or broken.
    """
    return _faithfully(lambda: _square(_open(content), size))


def square(image: Image.Image, size: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The same for an image that Pillow has opened, or made."""
    return _faithfully(lambda: _square(image, size))


def probe(content: bytes) -> tuple[int, int]:
    """Height and width in pixels, from the file's head alone (not turned upright).

    Raises:
        BadImage: empty or unknown.
    """
    image = _faithfully(lambda: _open(content))
    return image.height, image.width


def _faithfully(act: Callable[[], T]) -> T:
    """Do what may fail on a bad image, without warnings; parsers of hostile bytes fail in many ways."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return act()
        except BadImage:
            raise
        except Exception as error:  # each one is a reason, none a crash
            raise BadImage(_reason(error)) from error


@cache
def _formats() -> tuple[str, ...]:
    """Formats that this Pillow reads, of those that are images and nothing else (no PostScript, no PDF)."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _open(content: bytes) -> Image.Image:
    if not content:
        raise BadImage("empty file")
    return Image.open(io.BytesIO(content), formats=_formats())


def _square(image: Image.Image, size: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    width, height = image.size
    wanted = round(SHRINK_GAP * size)
    drafted = image.format in {"JPEG", "MPO"} and min(width, height) >= 2 * wanted
    if drafted:
        image.draft(None, (wanted, wanted))  # the decoder itself halves, at least to `wanted`
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(f"decompression bomb: {width} x {height} pixels")
    image.load()
    if not drafted:
        width, height = image.size  # a TIFF turns upright while loading
    orientation = _orientation(image)
    flat = _flatten(image)
    if flat.size != (size, size):
        flat = flat.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=SHRINK_GAP)
    if orientation in UPRIGHT:
        flat = flat.transpose(UPRIGHT[orientation])
    pixels = np.asarray(flat if flat.mode == "RGB" else flat.convert("RGB"))
    return pixels.transpose(0, 2, 1), (width, height) if orientation >= 5 else (height, width)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it is broken."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return 1  # a broken note beside good pixels
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _flatten(image: Image.Image) -> Image.Image:
    """Eight bits per channel, mode L or RGB, without transparency."""
    if image.mode in {"RGB", "L"} and "transparency" not in image.info:
        return image
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale deep gray values, [H, W]: integers from 16 bits, floats from [0, 1]; beyond these, from their own range."""
    deep = values.astype(np.float64)
    low, high = float(deep.min()), float(deep.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadImage("pixel values are not finite")
    floor, ceiling = 0.0, 65535.0 if np.issubdtype(values.dtype, np.integer) else 1.0
    if low < floor or high > ceiling:
        floor, ceiling = low, high
    return np.round((deep - floor) * (255 / (ceiling - floor))).astype(np.uint8)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"decompression bomb: {str(error).split(',')[0].lower()}"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    return str(error).lower() or type(error).__name__
