"""Pictures of every kind as RGB, with what a new file keeps: transparency and profile."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from robustsabn.errors import DataError, UsageError
from robustsabn.style import Picture, read_mask, read_picture, write_picture
from robustsabn.style import pictures as reading

N = 12
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (N, N, 3), dtype=np.uint8)
GREY = np.ascontiguousarray(COLOURS[..., 0])


def profile_of(space: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()  # type: ignore[arg-type]


def saved(path: Path, pixels: "np.ndarray[Any, Any]", **how: Any) -> Path:
    Image.fromarray(pixels).save(path, **how)
    return path


@pytest.mark.parametrize("end", ["png", "bmp", "webp", "ppm", "tif"])
def test_colours_of_eight_bits_are_read_exactly(end: str, tmp_path: Path) -> None:
    how = {"lossless": True} if end == "webp" else {}
    picture = read_picture(saved(tmp_path / f"a.{end}", COLOURS, **how))
    assert np.array_equal(picture.pixels, COLOURS)
    assert picture.opacity is None
    assert picture.profile is None
    assert picture.notes == ()


@pytest.mark.parametrize(
    ("pixels", "end", "white"),
    [
        (GREY.astype(np.uint16) * 257, "png", 65535),
        ((GREY / 255).astype(np.float32), "tif", 1),
        (GREY.astype(np.int32) * 257, "tif", 65535),
    ],
)
def test_deep_greyscale_is_scaled_to_eight_bits(
    pixels: "np.ndarray[Any, Any]", end: str, white: float, tmp_path: Path
) -> None:
    found = read_picture(saved(tmp_path / f"a.{end}", pixels)).pixels
    assert np.array_equal(found, np.repeat(GREY[..., None], 3, axis=2))


def test_greyscale_and_palettes_become_colours(tmp_path: Path) -> None:
    assert np.array_equal(read_picture(saved(tmp_path / "l.png", GREY)).pixels[..., 2], GREY)
    palette = Image.fromarray(GREY % 4).convert("P")
    palette.putpalette([9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    picture = read_picture(tmp_path / "p.png")
    assert picture.opacity is not None
    assert np.array_equal(picture.opacity == 0, GREY % 4 == 0)
    assert (picture.pixels[GREY % 4 == 1] == (6, 5, 4)).all()


def test_the_picture_is_turned_as_its_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    found = read_picture(saved(tmp_path / "a.png", COLOURS[:8], exif=exif)).pixels
    assert np.array_equal(found, np.rot90(COLOURS[:8], 3))


def test_the_first_of_several_frames_is_read_and_that_is_said(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((N, N), 40 * k, np.uint8)) for k in range(1, 4)]
    for end in ("gif", "tif", "webp"):
        frames[0].save(tmp_path / f"a.{end}", save_all=True, append_images=frames[1:])
        picture = read_picture(tmp_path / f"a.{end}")
        assert picture.pixels[0, 0] == pytest.approx(40, abs=2)
        assert picture.notes == (f"{tmp_path}/a.{end} has 3 frames; the first is used",)


def test_a_profile_of_rgb_is_kept_with_its_pixels(tmp_path: Path) -> None:
    profile = profile_of("sRGB")
    picture = read_picture(saved(tmp_path / "a.png", COLOURS, icc_profile=profile))
    assert picture.profile == profile
    assert np.array_equal(picture.pixels, COLOURS)
    for end in ("png", "jpg", "webp", "tif"):
        write_picture(tmp_path / f"b.{end}", picture)
        with Image.open(tmp_path / f"b.{end}") as file:
            assert file.info["icc_profile"] == profile


def test_a_profile_of_other_colours_is_applied_or_ignored(tmp_path: Path) -> None:
    header = bytearray(profile_of("sRGB"))
    for space in (b"GRAY", b"CMYK", b"????"):
        header[16:20] = space  # no such profile: it is ignored
        plain, image = Image.fromarray(GREY), io.BytesIO()
        if space == b"CMYK":
            plain = plain.convert("CMYK")
        plain.save(image, "TIFF", icc_profile=bytes(header))
        (tmp_path / "a.tif").write_bytes(image.getvalue())
        picture = read_picture(tmp_path / "a.tif")
        assert picture.profile is None
        assert np.abs(picture.pixels[..., 1].astype(int) - GREY).max() <= 1


def test_transparency_is_kept_and_invisible_colours_do_not_count(tmp_path: Path) -> None:
    pixels = np.dstack([COLOURS, np.full((N, N), 255, np.uint8)])
    pixels[:4, :, 3] = 0
    pixels[4, :, 3] = 100
    other = pixels.copy()
    other[:4, :, :3] = 255 - other[:4, :, :3]
    first, second = (read_picture(saved(tmp_path / f"{i}.png", p)) for i, p in enumerate((pixels, other)))
    assert first.opacity is not None
    assert np.array_equal(first.opacity, pixels[..., 3])
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.pixels[4:], COLOURS[4:])
    weights = pixels[..., 3].astype(float)
    for channel in range(3):
        mean = (COLOURS[..., channel] * weights).sum() / weights.sum()
        assert np.abs(first.pixels[:4, :, channel] - mean).max() <= 0.5
    for end in ("png", "tif"):
        write_picture(tmp_path / f"b.{end}", first)
        again = read_picture(tmp_path / f"b.{end}")
        assert again.opacity is not None
        assert np.array_equal(again.opacity, first.opacity)


@pytest.mark.parametrize(
    ("size", "expected"), [(6, (6, 9)), (24, (24, 36)), (12, (12, 18)), (None, (12, 18))]
)
def test_the_shorter_side_gets_the_size(size: int | None, expected: tuple[int, int], tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", RNG.integers(0, 256, (12, 18, 3), dtype=np.uint8))
    assert read_picture(path, size).size == expected
    assert read_picture(path, size, enlarge=False).size == min(expected, (12, 18))


def test_a_mask_is_brightness_and_transparent_is_black(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., :3], pixels[:2, :, 3] = 255, 255
    mask = read_mask(saved(tmp_path / "m.png", pixels))
    assert mask.tolist() == [[255] * 4] * 2 + [[0] * 4] * 2


BROKEN: dict[str, Callable[[Path], object]] = {
    "is text.jpg": lambda path: path.write_text("not a picture"),
    "is empty.png": lambda path: path.write_bytes(b""),
    "is cut.jpg": lambda path: path.write_bytes(_jpeg()[: len(_jpeg()) // 2]),
    "is cut.png": lambda path: path.write_bytes(_png()[:-40]),
    "is lab.tif": lambda path: Image.new("LAB", (N, N)).save(path),
    "is missing.jpg": lambda path: None,
    "is a folder.jpg": lambda path: path.mkdir(),
    "is nan.tif": lambda path: Image.fromarray(np.full((N, N), np.nan, np.float32)).save(path),
    "is large numbers.tif": lambda path: Image.fromarray(np.full((N, N), 2**20, np.int32)).save(path),
}


def _jpeg() -> bytes:
    held = io.BytesIO()
    Image.fromarray(COLOURS).resize((99, 99)).save(held, "JPEG")
    return held.getvalue()


def _png() -> bytes:
    held = io.BytesIO()
    Image.fromarray(COLOURS).save(held, "PNG")
    return held.getvalue()


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_refused_by_name(name: str, tmp_path: Path) -> None:
    BROKEN[name](tmp_path / name)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_picture(tmp_path / name)


def test_pictures_of_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", COLOURS)
    monkeypatch.setattr(reading, "LARGEST_PICTURE", 143)
    with pytest.raises(DataError, match=r"a\.png: 12 x 12 pixels are more than 143"):
        read_picture(path)
    monkeypatch.setattr(reading, "LARGEST_PICTURE", 144)
    with pytest.raises(DataError, match=r"a\.png: 13 x 13 pixels are more than 144"):
        read_picture(path, 13)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 71)
    with pytest.raises(DataError, match=r"a\.png has more than 142 pixels"):
        read_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # PIL would only warn
    assert read_picture(path).size == (N, N)


def test_a_format_that_cannot_hold_the_picture_is_refused(tmp_path: Path) -> None:
    wide = Picture(pixels=np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(UsageError, match="WEBP holds at most 16,383 pixels"):
        write_picture(tmp_path / "a.webp", wide)
    write_picture(tmp_path / "a.jpg", wide)
    clear = Picture(pixels=COLOURS, opacity=GREY)
    with pytest.raises(UsageError, match="transparent pixels, which JPEG cannot hold"):
        write_picture(tmp_path / "b.jpg", clear)
    with pytest.raises(UsageError, match=r"b\.gif: pictures are written as"):
        write_picture(tmp_path / "b.gif", clear)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
