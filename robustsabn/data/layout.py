"""Folders of images that are probably laid out by mistake: refused, or said."""

import os
from collections.abc import Iterable
from pathlib import Path

from robustsabn.data.decoding import SUFFIXES
from robustsabn.errors import DataError

__all__ = ["PARTS", "class_folders", "image_files", "like_a_part", "part_folders", "shown"]

PARTS = {"train": "train", "validation": "val", "test": "test"}
"""The parts of a set and the names of their folders."""

# names of folders and prefixes of arrays that mean a part, and are not what it is called here
_LIKE = {
    **dict.fromkeys(("training", "trn"), "train"),
    **dict.fromkeys(("valid", "validation", "validate", "dev", "eval"), "val"),
    **dict.fromkeys(("testing", "tst"), "test"),
}
# other pictures, which nothing here reads
_OTHER = {
    ".avif",
    ".dcm",
    ".dng",
    ".exr",
    ".hdr",
    ".heic",
    ".heif",
    ".j2k",
    ".jp2",
    ".jxl",
    ".nii",
    ".npy",
    ".svg",
    ".tga",
}


def like_a_part(name: str) -> str | None:
    """The name of a part, train, val or test, that `name` probably means, None where it is that name or means none."""
    lower = name.lower()
    meant = lower if lower in PARTS.values() else _LIKE.get(lower)
    return None if meant == name else meant


def part_folders(path: Path) -> tuple[dict[str, Path], list[str]]:
    """The folders of the parts in `path`, or `path` itself as "all", and what is to be said of what lies beside them.

    Raises DataError where a folder has nearly the name of a part.
    """
    below = _folders(path)
    for name in below:
        if meant := like_a_part(name):
            raise DataError(
                f"{path / name} is not used; parts are called train, val and test: rename it to {meant}"
            )
    found = {part: path / name for part, name in PARTS.items() if name in below}
    if not found:
        beside = [name for name in PARTS.values() if name != path.name and (path.parent / name).is_dir()]
        fits = path.name in PARTS.values() and beside
        note = f"{path} is one part of {path.parent}, and the folder {' and '.join(beside)} beside it is not used"
        return {"all": path}, [note] if fits else []
    unused = [name for name in below if name not in PARTS.values()]
    return found, [f"{path} has parts; its other folders are not used: {shown(unused)}"] if unused else []


def class_folders(root: Path) -> tuple[str, ...]:
    """The names of the class folders in `root`, sorted; DataError where it has none, or is a level too high or too low."""
    names = tuple(_folders(root))
    if not names:
        here = any(_is_image(file) for file in root.iterdir())
        hint = f"; it holds images itself: name the folder above, {root.parent}" if here else ""
        raise DataError(
            f"{root} has no class folders; put the images of class CLASS into {root}/CLASS/{hint}"
        )
    if any(_is_image(file) for name in names for file in (root / name).iterdir()):
        return names
    within = _folders(root / names[0])
    if len(within) > 1 and all(_folders(root / name) == within for name in names):
        raise DataError(
            f"{root} holds no images in {shown(names)} but in the folders {shown(within)} of each; if these are the classes, "
            f"{root} is a level too high: name {root / names[0]}, or put the images of each class into one folder"
        )
    return names


def image_files(root: Path, name: str) -> tuple[list[Path], int]:
    """The images in the class folder `name` of `root` and below it, sorted, and how many other files lie there.

    Hidden files and folders are left out. Raises DataError where there is no image, or a picture of a kind that is not read.
    """
    place = root / name
    files: list[Path] = []
    for folder, below, found in os.walk(place, onerror=_fail):
        below[:] = [name for name in below if not name.startswith(".")]
        files += [Path(folder, name) for name in found if not name.startswith(".")]
    images = sorted(p for p in files if p.suffix.lower() in SUFFIXES)
    for file in files:
        if file.suffix.lower() in _OTHER:
            raise DataError(
                f"{file} is not read; convert or remove it: allowed are {' '.join(sorted(SUFFIXES))}"
            )
    if not images:
        raise DataError(f"{place} holds no images ({' '.join(sorted(SUFFIXES))}); remove the folder")
    return images, len(files) - len(images)


def shown(names: Iterable[str], most: int = 5) -> str:
    """Some names for a message."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _folders(place: Path) -> list[str]:
    with os.scandir(place) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _fail(error: OSError) -> None:
    raise error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
