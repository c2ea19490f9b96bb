"""Files that a command is asked to write, checked before its work begins."""

from pathlib import Path

from robustsabn.errors import UsageError
from robustsabn.files import check_name, make_folder
from robustsabn.paths import given_path

__all__ = ["file_to_write"]


def file_to_write(option: str, path: Path | None) -> Path | None:
    """The path that `option` gives; UsageError for a folder, WriteError if it is not writable. None stays
    None."""
    if path is None:
        return None
    path = given_path(path, option, UsageError)
    check_name(path)
    if path.is_dir():
        raise UsageError(f"{option}: {path} is a folder; name a file in it")
    make_folder(next(folder for folder in path.resolve().parents if folder.exists()))
    return path
