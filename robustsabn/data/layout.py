"""Layout of image folders; layouts that look like a mistake are refused or reported."""

import os
from collections.abc import Iterable
from pathlib import Path

from robustsabn.data.decoding import SUFFIXES
from robustsabn.errors import DataError

__all__ = ["PARTS", "class_folders", "image_files", "like_a_part", "part_folders", "shown"]

PARTS = {"train": "train", "validation": "val", "test": "test"}
"""The parts of a set and the names of their folders."""

# other names of parts that people use for folders and arrays
_LIKE = {
    **dict.fromkeys(("training", "trn"), "train"),
    **dict.fromkeys(("valid", "validation", "validate", "dev", "eval"), "val"),
    **dict.fromkeys(("testing", "tst"), "test"),
}
# image formats that are not supported
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
    """The part (train, val or test) that `name` probably means; None if it is that name, or means no part."""
    lower = name.lower()
    meant = lower if lower in PARTS.values() else _LIKE.get(lower)
    return None if meant == name else meant


def part_folders(path: Path) -> tuple[dict[str, Path], list[str]]:
    """The folders of the parts in `path`, or `path` itself as "all", and notes about other folders.

    Raises DataError if a folder has almost the name of a part.
    """
    below = _folders(path)
    for name in below:
        if meant := like_a_part(name):
            raise DataError(
                f"{path / name} is not used, since parts are named train, val and test; rename it to {meant}"
            )
    parts = {part: path / name for part, name in PARTS.items() if name in below}
    if not parts:
        beside = [name for name in PARTS.values() if name != path.name and (path.parent / name).is_dir()]
        fits = path.name in PARTS.values() and beside
        note = (
            f"{path} is one part of {path.parent}, and the folder {' and '.join(beside)} beside it is not "
            "used"
        )
        return {"all": path}, [note] if fits else []
    unused = [name for name in below if name not in PARTS.values()]
    return parts, [f"{path} has parts; its other folders are not used: {shown(unused)}"] if unused else []


def class_folders(root: Path) -> tuple[str, ...]:
    """The sorted names of the class folders in `root`.

    Raises DataError if there are none, or if `root` is a level too high or too low.
    """
    names = tuple(_folders(root))
    if not names:
        has_images = any(_is_image(file) for file in root.iterdir())
        hint = f"; it has images itself: give the folder above, {root.parent}" if has_images else ""
        raise DataError(
            f"{root} has no class folders; put the images of class CLASS into {root}/CLASS/{hint}"
        )
    if any(_is_image(file) for name in names for file in (root / name).iterdir()):
        return names
    within = _folders(root / names[0])
    if len(within) > 1 and all(_folders(root / name) == within for name in names):
        raise DataError(
            f"{root} has no images in {shown(names)}, but in the folders {shown(within)} of each; if these "
            f"are the classes, {root} is a level too high: give {root / names[0]}, or put the images of "
            "each class into one folder"
        )
    return names


def image_files(root: Path, name: str) -> tuple[list[Path], int]:
    """The sorted images in and below the class folder `name` of `root`, and the number of other files there.

    Hidden files and folders are ignored. Raises DataError if there is no image, or one in a format that is
    not read."""
    place = root / name
    files: list[Path] = []
    for folder, below, found in os.walk(place, onerror=_fail):
        below[:] = [name for name in below if not name.startswith(".")]
        files += [Path(folder, name) for name in found if not name.startswith(".")]
    images = sorted(p for p in files if p.suffix.lower() in SUFFIXES)
    for file in files:
        if file.suffix.lower() in _OTHER:
            raise DataError(
                f"{file} cannot be read; convert or remove it: allowed are {' '.join(sorted(SUFFIXES))}"
            )
    if not images:
        raise DataError(f"{place} has no images ({' '.join(sorted(SUFFIXES))}); remove the folder")
    return images, len(files) - len(images)


def shown(names: Iterable[str], most: int = 5) -> str:
    """The first names as text, and the number of others."""
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
