"""Archives of arrays and folders of pictures that were damaged or made up."""

import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from robustsabn.data import load
from tests.helpers.hostile.case import Case, damaged

__all__ = ["arrays", "pictures"]


def arrays(sound: Path, made: Path) -> list[Case]:
    grey, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 10
    objects = np.array([{"a": 1}] * 20, dtype=object)
    written: dict[str, dict[str, object]] = {
        "object images": {"images": objects, "labels": labels},
        "object labels": {"images": grey, "labels": objects},
        "object classes": {"images": grey, "labels": labels, "classes": objects},
        "complex": {"images": grey.astype(complex), "labels": labels},
        "scalar": {"images": np.uint8(3), "labels": np.int64(3)},
        "void": {"images": np.zeros(20, dtype=[("a", "u1")]), "labels": labels},
        "five dimensions": {"images": grey[..., None, None], "labels": labels},
        "float labels": {"images": grey, "labels": labels / 2},
        "nan labels": {"images": grey, "labels": np.full(20, np.nan)},
        "negative": {"images": grey, "labels": labels - 5},
        "huge labels": {"images": grey, "labels": np.full(20, 2**62)},
        "unsigned labels": {"images": grey, "labels": np.full(20, 2**64 - 1, np.uint64)},
        "fewer labels": {"images": grey, "labels": labels[:5]},
        "no images": {"images": grey[:0], "labels": labels[:0]},
        "one image": {"images": grey[:1], "labels": labels[:1]},
        "date labels": {"images": grey, "labels": np.full(20, np.datetime64("2020-01-01"))},
        "no classes": {"images": grey, "labels": labels, "classes": np.array([], dtype="U1")},
        "nothing": {},
    }
    found = []
    for name, arrays in written.items():
        np.savez(made / f"{name}.npz", **arrays)  # type: ignore[arg-type]
        found.append(_data(f"npz {name}", f"npz:{made}/{name}.npz"))
    content = (sound / "sound.npz").read_bytes()
    for name, new in damaged(content).items():
        (made / f"damaged {name}.npz").write_bytes(new)
        found.append(_data(f"npz {name}", f"npz:{made}/damaged {name}.npz"))
    _encrypt(sound / "sound.npz", made / "encrypted.npz")
    _recode(made / "method.npz", method=97)
    _headers(made)
    names = ("encrypted", "method", "huge header", "code in header", "wrong header", "twice", "not arrays")
    return [*found, *(_data(f"npz {name}", f"npz:{made}/{name}.npz") for name in names)]


def _encrypt(source: Path, target: Path) -> None:
    """Set the bit of encryption of every member."""
    content = bytearray(source.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(mark, at + 4)
    target.write_bytes(content)


def _recode(target: Path, method: int) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("images.npy", b"abc")
        archive.writestr("labels.npy", b"abc")
    content = bytearray(target.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset : at + offset + 2] = struct.pack("<H", method)
            at = content.find(mark, at + 4)
    target.write_bytes(content)


def _headers(made: Path) -> None:
    def member(header: str) -> bytes:
        text = header.encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text

    huge = member("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 9999, 9999), }")
    code = member("__import__('os').getcwd()")
    wrong = member("{'descr': '|u1', 'shape': 'x'}")
    for name, content in (("huge header", huge), ("code in header", code), ("wrong header", wrong)):
        with zipfile.ZipFile(made / f"{name}.npz", "w") as archive:
            archive.writestr("images.npy", content)
            archive.writestr("labels.npy", content)
    with zipfile.ZipFile(made / "not arrays.npz", "w") as archive:
        archive.writestr("images", b"text")
        archive.writestr("labels", b"text")
    (made / "twice.npz").write_bytes(2 * b"PK\x05\x06" + bytes(40))


def _data(name: str, spec: str) -> Case:
    return Case(name, lambda: load(spec))


def pictures(sound: Path, made: Path) -> list[Case]:
    found = []
    for ending, format in ((".png", "PNG"), (".tiff", "TIFF"), (".jpg", "JPEG"), (".bmp", "BMP")):
        whole = made / f"whole{ending}"
        Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(whole, format)
        for name, content in damaged(whole.read_bytes()).items():
            if name in ("flipped", "cut by one"):
                continue  # may still be decoded
            folder = made / f"photos {name}{ending}"
            shutil.copytree(sound / "photos", folder)
            (folder / "cat" / f"bad{ending}").write_bytes(content)
            found.append(Case(f"picture {name}{ending}", _decode(folder)))
        whole.unlink()
    return found


def _decode(folder: Path) -> Callable[[], object]:
    def do() -> object:
        data = load(f"imagefolder:{folder},size=8", validation=1)
        for images in (data.train, data.validation, data.test):
            images.batch(torch.arange(len(images)))
        return None

    return do
