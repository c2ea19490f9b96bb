"""Pictures as pixels: deep greyscale, orientation, transparency, print colours, frames, damage."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustsabn.data import load_test
from robustsabn.data.decoding import decode
from robustsabn.errors import DataError

N = 12
RNG = np.random.default_rng(0)
SHARE = RNG.random((N, N))


def png(pixels: np.ndarray[Any, Any], colour: int) -> bytes:
    """A PNG of 16 bits a channel: colour type 0 grey, 2 RGB, 4 grey and alpha, 6 RGB and alpha."""
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], 16, colour, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def saved(path: Path, pixels: np.ndarray[Any, Any], **how: Any) -> Path:
    Image.fromarray(pixels).save(path, **how)
    return path


def pgm(path: Path, pixels: np.ndarray[Any, Any], most: int = 65535) -> Path:
    path.write_bytes(f"P5\n{N} {N}\n{most}\n".encode() + pixels.astype(">u2").tobytes())
    return path


def deep(name: str, share: np.ndarray[Any, Any], folder: Path) -> tuple[Path, np.ndarray[Any, Any], float]:
    """A file, its values, and which of them is white."""
    if name == "12 bits in png":
        values = (share * 4095).astype(np.uint16)
        return saved(folder / "a.png", values), values, 4095
    if name == "int32 tiff":
        values = (share * 2**31).astype(np.int64).clip(0, 2**31 - 1).astype(np.int32)
        return saved(folder / "a.tif", values), values, 2**31 - 1
    if name == "float tiff":
        return saved(folder / "a.tiff", share.astype(np.float32)), share.astype(np.float32), 1
    values = (share * 65535).astype(np.uint16)
    if name == "pgm":
        return pgm(folder / "a.pgm", values), values, 65535
    return saved(folder / f"a.{name.partition(' ')[2]}", values), values, 65535


KINDS = ["16-bit png", "16-bit tif", "12 bits in png", "int32 tiff", "float tiff", "pgm"]


@pytest.mark.parametrize("name", KINDS)
def test_deep_greyscale_is_scaled_by_the_white_that_is_given(name: str, tmp_path: Path) -> None:
    path, values, white = deep(name, SHARE, tmp_path)
    found = decode(path, N, white)
    for i in range(N):
        for j in range(N):
            expected = 255 * float(values[i, j]) / white
            assert (found[:, i, j] - expected).abs().max() <= 0.5 + 1e-3
    with pytest.raises(DataError, match=r"/a\.\w+ has .* pixels from .* which value is white.*,white=4095"):
        decode(path, N)


@pytest.mark.parametrize("name", KINDS)
def test_the_same_value_is_the_same_grey_in_every_file(name: str, tmp_path: Path) -> None:
    bright = np.full((N, N), 0.25)
    dark, bright[0, 0] = bright.copy(), 1.0
    found = []
    for i, share in enumerate((dark, bright)):
        (tmp_path / str(i)).mkdir()
        path, _, white = deep(name, share, tmp_path / str(i))
        found.append(decode(path, N, white)[:, 1:, 1:])
    assert torch.equal(*found)
    assert torch.unique(found[0]).tolist() == [64]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((N, N), 4096, np.uint16), "from 4096 to 4096, outside 0 to white=4095"),
        (np.full((N, N), -1, np.int32), "from -1 to -1, outside 0"),
        (np.full((N, N), np.nan, np.float32), "NaN or infinite"),
    ],
)
def test_values_that_are_not_between_black_and_white_are_refused(
    pixels: np.ndarray[Any, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        decode(saved(tmp_path / "a.tif", pixels), N, 4095)


def test_white_leaves_pictures_of_eight_bits_as_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", (SHARE * 255).astype(np.uint8))
    assert torch.equal(decode(path, N, 4095), decode(path, N))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_a_channel_are_taken_when_all_are_used(
    colour: int, channels: int, tmp_path: Path
) -> None:
    values = np.repeat((SHARE * 65535).astype(np.uint16)[..., None], channels, 2)
    if channels % 2 == 0:
        values[..., -1] = 65535
    (tmp_path / "a.png").write_bytes(png(values, colour))
    for white in (None, 4095):
        with pytest.raises(DataError, match="16 bits per channel; append ,white=65535"):
            decode(tmp_path / "a.png", N, white)
    found = decode(tmp_path / "a.png", N, 65535)
    assert (found.float() - torch.from_numpy(SHARE * 255).float()).abs().max() <= 1


TURNED: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 3),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(("end", "kind"), [("png", np.uint8), ("tif", np.uint8), ("png", np.uint16)])
def test_pictures_are_upright(orientation: int, end: str, kind: Any, tmp_path: Path) -> None:
    stored = (SHARE * np.iinfo(kind).max).astype(kind)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"a.{end}", stored, exif=exif)
    upright = saved(tmp_path / f"b.{end}", np.ascontiguousarray(TURNED[orientation](stored)))
    assert torch.equal(decode(path, N, 65535), decode(upright, N, 65535))


def test_print_colours_are_those_of_the_screen(tmp_path: Path) -> None:
    for end in ("jpg", "tif"):
        Image.new("CMYK", (N, N), (0, 255, 255, 0)).save(tmp_path / f"a.{end}")
        assert decode(tmp_path / f"a.{end}", N)[:, 3, 3].tolist() == [255, 0, 0]
    Image.new("LAB", (N, N), (50, 0, 0)).save(tmp_path / "lab.tif")
    with pytest.raises(DataError, match=r"lab\.tif has pixels of mode LAB"):
        decode(tmp_path / "lab.tif", N)


def test_transparent_pixels_are_refused_and_opaque_ones_read(tmp_path: Path) -> None:
    grey = (SHARE * 255).astype(np.uint8)
    plain = decode(saved(tmp_path / "l.png", grey), N)
    for mode in ("RGBA", "LA"):
        image = Image.fromarray(grey).convert(mode)
        image.save(tmp_path / "a.png")
        assert torch.equal(decode(tmp_path / "a.png", N), plain)
        image.putpixel((3, 4), (*image.getpixel((3, 4))[:-1], 254))  # type: ignore[index]
        image.save(tmp_path / "a.png")
        with pytest.raises(DataError, match=r"a\.png has transparent pixels"):
            decode(tmp_path / "a.png", N)
    palette = Image.fromarray(grey % 4).convert("P")
    for transparent, fine in ((2, False), (200, True)):
        palette.save(tmp_path / "p.png", transparency=transparent)
        if fine:
            assert decode(tmp_path / "p.png", N).shape == (3, N, N)
        else:
            with pytest.raises(DataError, match="transparent pixels"):
                decode(tmp_path / "p.png", N)


def test_several_frames_are_refused_but_not_the_previews_of_a_camera(tmp_path: Path) -> None:
    frames = [Image.fromarray(RNG.integers(0, 256, (N, N), dtype=np.uint8)) for _ in range(3)]
    for end in ("gif", "png", "webp", "tif"):
        frames[0].save(tmp_path / f"a.{end}", save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match=rf"a\.{end} has 3 frames; store one"):
            decode(tmp_path / f"a.{end}", N)
        frames[0].save(tmp_path / f"b.{end}", lossless=True)  # as WebP can be
        assert torch.equal(decode(tmp_path / f"b.{end}", N)[1], torch.from_numpy(np.array(frames[0])))
    frames[0].save(tmp_path / "c.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "c.jpg", N).shape == (3, N, N)


def test_tiff_headers_that_pil_does_not_heed(tmp_path: Path) -> None:
    white = saved(tmp_path / "w.tif", np.zeros((N, N), np.uint16), tiffinfo={262: 0})
    with pytest.raises(DataError, match="0 as white"):
        decode(white, N, 65535)
    signed = saved(tmp_path / "s.tif", np.full((N, N), 200, np.uint8), tiffinfo={339: (2,)})
    with pytest.raises(DataError, match="signed pixels of 8 bits"):
        decode(signed, N)
    inverted = saved(tmp_path / "i.tif", np.full((N, N), 200, np.uint8), tiffinfo={262: 0})
    assert torch.unique(decode(inverted, N)).tolist() == [200]


@pytest.mark.parametrize("end", ["png", "jpg", "bmp", "gif", "webp", "ppm", "tif"])
def test_damaged_files_are_refused_by_name_or_read(end: str, tmp_path: Path) -> None:
    held = io.BytesIO()
    whole = Image.fromarray(RNG.integers(0, 256, (N, N, 3), dtype=np.uint8))
    form = {"jpg": "JPEG", "tif": "TIFF"}.get(end, end.upper())
    whole.save(held, form)
    content, path = held.getvalue(), tmp_path / f"a.{end}"
    for part in (0, 4, len(content) // 2, len(content) * 9 // 10):
        path.write_bytes(content[:part])
        with pytest.raises(DataError, match=rf"a\.{end} cannot be decoded .*repair or remove it"):
            decode(path, N)
    for _ in range(30):
        broken = bytearray(content)
        for place in RNG.integers(0, min(len(content), 80), 3):
            broken[place] = RNG.integers(0, 256)
        path.write_bytes(bytes(broken))
        said = problem(path)
        assert said is None or (f"a.{end}" in said and "\n" not in said)


def problem(path: Path) -> str | None:
    """What is said of a file that is refused."""
    try:
        assert decode(path, N).shape == (3, N, N)
    except DataError as error:
        return str(error)
    return None


def test_white_is_a_part_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    saved(tmp_path / "a" / "0.png", np.full((N, N), 1000, np.uint16))
    for options in (f"white=4000,size={N}", f"size={N},white=4000"):
        x, _ = load_test(f"imagefolder:{tmp_path},{options}").batch(torch.tensor([0]))
        assert torch.unique((x * 255).round()).tolist() == [64]
    for text in ("0", "-1", "inf", "nan", "", "white"):
        with pytest.raises(DataError, match="white must be a number above 0"):
            load_test(f"imagefolder:{tmp_path},white={text}")
