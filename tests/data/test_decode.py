"""Every readable image becomes the right square; every other one is refused with its reason."""

import io
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from stillhouse.data.decode import BadImage, decode, probe
from tests.data.pictures import encoded, png, random_pixels


def upright(pixels: np.ndarray) -> np.ndarray:
    """From rows, channels, columns to rows, columns, channels."""
    return pixels.transpose(0, 2, 1)


def test_image_of_the_wanted_size_keeps_its_pixels() -> None:
    pixels, size = decode(png(3, 16, 16), 16)
    assert size == (16, 16)
    assert np.array_equal(upright(pixels), random_pixels(3, 16, 16))


def test_squash_equals_plain_antialiased_bicubic_below_the_gap() -> None:
    image = Image.fromarray(random_pixels(1, 30, 50))
    pixels, size = decode(encoded(image), 16)
    assert size == (30, 50)
    assert np.array_equal(upright(pixels), np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC)))


def test_strong_shrinking_averages_instead_of_aliasing() -> None:
    stripes = np.zeros((400, 400, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels, _ = decode(encoded(Image.fromarray(stripes)), 8)
    assert abs(pixels.astype(float) - 127.5).max() <= 2


def test_large_jpeg_is_shrunk_by_the_decoder_to_nearly_the_same_pixels() -> None:
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    smooth = Image.fromarray(np.stack([np.tile(ramp, (1200, 1))] * 3, axis=-1))
    pixels, size = decode(encoded(smooth, "JPEG", quality=95), 32)
    exact = np.asarray(smooth.resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    assert size == (1200, 1600)
    assert abs(upright(pixels) - exact).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_exif_is_applied_to_pixels_and_size(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(Image.fromarray(random_pixels(2, 16, 24)), "PNG", exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    pixels, size = decode(content, 16)
    assert size == (turned.height, turned.width)
    expected = np.asarray(turned.resize((16, 16), Image.Resampling.BICUBIC)).astype(int)
    assert abs(upright(pixels) - expected).max() <= 1


def test_tiff_is_turned_upright_once() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = random_pixels(2, 16, 16)
    found, _ = decode(encoded(Image.fromarray(pixels), "TIFF", exif=exif), 16)
    assert np.array_equal(upright(found), np.rot90(pixels, -1))


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep = np.array([[0, 257], [32896, 65535]], dtype=np.uint16)
    pixels, _ = decode(encoded(Image.fromarray(deep)), 2)
    assert np.array_equal(upright(pixels)[..., 0], [[0, 1], [128, 255]])


def test_float_gray_is_scaled_from_unit_range() -> None:
    values = np.array([[0.0, 1.0], [0.5, 0.25]], dtype=np.float32)
    pixels, _ = decode(encoded(Image.fromarray(values), "TIFF"), 2)
    assert np.array_equal(upright(pixels)[..., 2], [[0, 255], [128, 64]])


def test_gray_becomes_three_equal_channels() -> None:
    pixels, _ = decode(encoded(Image.fromarray(random_pixels(0)[..., 0])), 12)
    assert np.array_equal(pixels[:, 0], random_pixels(0)[..., 0])
    assert np.array_equal(pixels[:, 0], pixels[:, 2])


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    pixels, _ = decode(encoded(cyan, kind), 8)
    assert abs(upright(pixels)[0, 0].astype(int) - [0, 255, 255]).max() <= 3


def test_transparency_lies_over_white() -> None:
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 51))
    keyed = Image.new("RGB", (4, 4), (10, 20, 30))
    from_palette = upright(decode(encoded(palette, transparency=0), 4)[0])
    assert from_palette[0, 0].tolist() == [255, 255, 255]
    assert from_palette[0, 1].tolist() == [200, 0, 0]
    assert upright(decode(encoded(half), 4)[0])[0, 0].tolist() == [204, 204, 204]
    assert upright(decode(encoded(keyed, transparency=(10, 20, 30)), 4)[0])[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 250, 0))]
    pixels, _ = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), 8)
    assert abs(upright(pixels)[4, 4].astype(int) - [250, 0, 0]).max() <= 8


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 20_000), (20_000, 1)])
def test_extreme_shapes_are_used(height: int, width: int) -> None:
    pixels, size = decode(encoded(Image.new("RGB", (width, height), (9, 99, 199))), 16)
    assert size == (height, width)
    assert np.array_equal(upright(pixels), np.full((16, 16, 3), (9, 99, 199)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_image_is_refused(kind: str, share: float) -> None:
    content = encoded(Image.fromarray(random_pixels(5, 64, 64)), kind)
    with pytest.raises(BadImage):
        decode(content[: int(share * len(content))], 16)


def test_truncated_progressive_and_drafted_jpeg_are_refused() -> None:
    image = Image.fromarray(random_pixels(5, 512, 512))
    for options in ({"progressive": True}, {}):
        content = encoded(image, "JPEG", **options)
        with pytest.raises(BadImage, match="truncated"):
            decode(content[: len(content) // 2], 32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"plain words", "not an image"),
        (b"\xff\xd8\xff\xe0", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(content, 16)
    with pytest.raises(BadImage, match=reason):
        probe(content)


@pytest.mark.parametrize("side", [12_000, 30_000])
def test_decompression_bomb_is_refused_without_a_warning(side: int) -> None:
    content = bytearray(encoded(Image.new("L", (8, 8))))
    content[16:24] = side.to_bytes(4, "big") * 2  # the head of a PNG tells its size
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(BadImage, match="decompression bomb"):
            decode(bytes(content), 16)
    assert not caught


def test_values_that_are_not_finite_are_refused() -> None:
    values = np.array([[0.0, np.nan]], dtype=np.float32)
    with pytest.raises(BadImage, match="not finite"):
        decode(encoded(Image.fromarray(values), "TIFF"), 2)


def test_probe_reads_height_and_width() -> None:
    assert probe(png(0, 5, 9)) == (5, 9)
