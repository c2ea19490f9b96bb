"""`robustsabn stylize` on pictures of every kind: it works, or says in one line why not."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from robustsabn.style import read_picture
from tests.helpers.style.verb import COLOURS, GREY, saved, stylized

pytestmark = pytest.mark.usefixtures("here")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def sixteen_bits(name: str, colour: int, channels: int) -> None:
    """A PNG of 16 bits a channel, which PIL cannot write: colour type 2 is RGB, 4 grey and alpha, 6 both."""
    lines = np.repeat(GREY[..., None].astype(">u2") * 257, channels, 2)
    content = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    header = struct.pack(">IIBBBBB", 30, 20, 16, colour, 0, 0, 0)
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    ]
    Path(name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def animated(name: str) -> None:
    frames = [Image.fromarray(COLOURS // k).convert("RGB") for k in (1, 2, 3)]
    frames[0].save(name, save_all=True, append_images=frames[1:])


def turned(name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    saved(name, exif=exif)


GOOD: dict[str, Callable[[str], object]] = {
    "rgb.png": lambda name: saved(name),
    "rgb.jpg": lambda name: saved(name),
    "rgb.jpeg": lambda name: saved(name),
    "rgb.JPG": lambda name: saved(name),
    "rgb.webp": lambda name: saved(name),
    "rgb.bmp": lambda name: saved(name),
    "rgb.ppm": lambda name: saved(name),
    "rgb.tif": lambda name: saved(name),
    "grey.png": lambda name: saved(name, GREY),
    "grey.jpg": lambda name: saved(name, GREY),
    "grey and alpha.png": lambda name: saved(name, mode="LA"),
    "bits.png": lambda name: saved(name, mode="1"),
    "alpha.png": lambda name: saved(name, mode="RGBA"),
    "palette.png": lambda name: saved(name, mode="P"),
    "palette with transparency.png": lambda name: saved(name, mode="P", transparency=3),
    "palette.gif": lambda name: saved(name, mode="P"),
    "animated.gif": animated,
    "animated.webp": animated,
    "pages.tif": animated,
    "cmyk.jpg": lambda name: saved(name, mode="CMYK"),
    "cmyk.tif": lambda name: saved(name, mode="CMYK"),
    "16-bit grey.png": lambda name: saved(name, GREY.astype(np.uint16) * 257),
    "16-bit grey.tif": lambda name: saved(name, GREY.astype(np.uint16) * 257),
    "16-bit rgb.png": lambda name: sixteen_bits(name, 2, 3),
    "16-bit rgba.png": lambda name: sixteen_bits(name, 6, 4),
    "float.tif": lambda name: saved(name, (GREY / 255).astype(np.float32)),
    "profile.jpg": lambda name: saved(name, icc_profile=SRGB),
    "turned.jpg": turned,
    "1x1.png": lambda name: saved(name, COLOURS[:1, :1]),
    "1 row.png": lambda name: saved(name, COLOURS[:1]),
    "3 columns.jpg": lambda name: saved(name, COLOURS[:, :3]),
    "picture without ending": lambda name: saved(name, format="PNG"),
    "jpeg named .png": lambda name: saved(name, format="JPEG"),
    "名前 (1).png": lambda name: saved(name),
}


@pytest.mark.parametrize("name", GOOD)
def test_pictures_of_every_kind_keep_their_size(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    GOOD[name](name)
    assert stylized("--content", name) == 0
    content = read_picture(name)
    with Image.open("out.png") as result:
        assert (result.height, result.width) == content.size
        assert result.mode == ("RGB" if content.opacity is None else "RGBA")
        assert result.info.get("icc_profile") == content.profile
        assert result.getexif().get(0x0112) is None
    if content.opacity is not None:
        found = read_picture("out.png").opacity
        assert found is not None
        assert np.array_equal(found, content.opacity)
    captured = capsys.readouterr()
    assert "1 picture written to out.png (checkpoint best, step 7)" in captured.out
    assert ("has 3 frames; the first is used" in captured.out) == (name[:4] in ("anim", "page"))
    assert captured.err == ""
    if name == "turned.jpg":
        assert content.size == (30, 20)


def broken(name: str) -> None:
    held = io.BytesIO()
    Image.fromarray(COLOURS).resize((200, 200)).save(held, "JPEG" if name.endswith("jpg") else "PNG")
    Path(name).write_bytes(held.getvalue()[: held.tell() // 2])


BAD: dict[str, Callable[[str], object]] = {
    "text.jpg": lambda name: Path(name).write_text("not a picture"),
    "empty.png": lambda name: Path(name).write_bytes(b""),
    "truncated.jpg": broken,
    "truncated.png": broken,
    "lab.tif": lambda name: Image.new("LAB", (9, 9)).save(name),
    "signed.tif": lambda name: saved(name, GREY, tiffinfo={339: (2,)}),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("part", ["--content", "--style", "--mask"])
def test_broken_pictures_are_refused_by_name(
    name: str, part: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BAD[name](name)
    before = set(os.listdir(here))
    assert stylized(part, name) == 2
    captured = capsys.readouterr()
    assert name in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert set(os.listdir(here)) == before
