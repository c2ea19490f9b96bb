"""Which pictures are read, and which file each becomes; two never become the same, and none replaces one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustsabn.data.decoding import SUFFIXES
from robustsabn.errors import UsageError
from robustsabn.files import check_name
from robustsabn.paths import given_path
from robustsabn.style.writing import FORMATS, suffix_for
from robustsabn.text import counted

__all__ = ["Work", "plan"]


@dataclass(frozen=True)
class Work:
    """The new file of each content, whether these are the files of a folder, and notes."""

    targets: dict[Path, Path]
    folder: Path | None
    notes: tuple[str, ...]


def plan(given: Sequence[Path], out: Path) -> Work:
    """The contents in `given`, files or folders of pictures, and their files in the new folder `out`.

    For one file `out` may also be the new file. Raises UsageError if there is no such content, if `out` or a
    file in it exists, or if it cannot be the name of a picture or a folder."""
    out = given_path(out, "--out", UsageError)
    check_name(out)
    given = [given_path(path, "--content", UsageError) for path in given]
    contents, notes = _contents(given)
    to_file = out.suffix.lower() in FORMATS and not out.is_dir()
    if out.suffix and not to_file and not out.is_dir():
        raise UsageError(f"--out {out}: give the name of a new folder, or of a picture ({' '.join(FORMATS)})")
    if not out.resolve().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}; make it first")
    if to_file:
        if len(given) > 1 or given[0].is_dir():
            raise UsageError(
                f"--out {out} is one picture; give the name of a new folder for several contents"
            )
        _check_absent([out])
        return Work({contents[0]: out}, None, notes)
    if any(path.is_dir() and out.exists() and path.samefile(out) for path in given):
        raise UsageError(f"--out {out} is the folder of the contents; choose another folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} exists; choose another name, or remove it")
    targets = dict(zip(contents, _names(contents, out), strict=True))
    _check_absent(list(targets.values()))
    renamed = [(path, new) for path, new in targets.items() if new.stem != path.stem]
    notes += tuple(f"{path} becomes {new.name}, since another content has its name" for path, new in renamed)
    return Work(targets, out, notes)


def _contents(given: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Each picture once, those of a folder sorted by name, and notes on what is left out."""
    found, notes = dict[Path, Path](), list[str]()
    for place in given:
        if not place.is_dir():
            if not place.is_file():
                raise UsageError(f"--content {place}: there is no such file; give a picture or a folder")
            found.setdefault(place.resolve(), place)
            continue
        entries = sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
        pictures = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not pictures:
            raise UsageError(f"--content {place} has no pictures ({' '.join(sorted(SUFFIXES))})")
        if others := len(entries) - len(pictures):
            notes.append(f"{counted(others, 'entry', 'entries')} of {place} left out, which are no pictures")
        for path in pictures:
            found.setdefault(path.resolve(), path)
    return list(found.values()), tuple(notes)


def _names(contents: Sequence[Path], folder: Path) -> list[Path]:
    """A file in `folder` for each content, with its name; -2, -3, … follow a name that is taken."""
    taken, names = set[str](), list[Path]()
    for content in contents:
        check_name(content)
        name, count = f"{content.stem}{suffix_for(content)}", 1
        while name.casefold() in taken:
            count += 1
            name = f"{content.stem}-{count}{suffix_for(content)}"
        taken.add(name.casefold())
        names.append(folder / name)
    return names


def _check_absent(targets: Sequence[Path]) -> None:
    there = [path for path in targets if path.exists() or path.is_symlink()]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UsageError(f"--out: {there[0]}{more} exists; choose another name, or remove it")
