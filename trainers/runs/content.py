"""Digests of a run's data sets, so that it resumes only with the same data."""

from collections.abc import Mapping
from typing import Any

from robustsabn.data import Data, ImageSet
from robustsabn.data.content import digest, sha256
from robustsabn.data.layout import shown
from robustsabn.errors import DataError
from robustsabn.trainers.checkpoints.files import Checkpoint

__all__ = ["check_content", "content", "used_sha256"]


def content(data: Data, extra: tuple[ImageSet, int] | None = None) -> dict[str, str]:
    """The digests of the data set and of the extra one, by the key of their specs."""
    digests = {"data": data.digest}
    return digests if extra is None else digests | {"extra": digest({"train": extra[0]}, None)}


def used_sha256(data: Data, extra: tuple[ImageSet, int] | None = None) -> dict[str, str]:
    """SHA-256 of the parts of the data set as they are used, and of the extra set, by their keys."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    hashes = {"data": sha256(parts, data.classes)}
    return hashes if extra is None else hashes | {"extra.data": sha256({"train": extra[0]}, None)}


def check_content(
    folder: object,
    stored: Checkpoint,
    named: Mapping[str, str | None],
    data: Data,
    held: Mapping[str, str],
) -> None:
    """Raise DataError if the classes or the content of a data set differ from the checkpoint.

    `named` has the specs of the sets by key, `held` their `content`.
    """
    state = stored.state
    if list(data.classes) != state["classes"]:
        raise DataError(
            f"{data.name} has the classes {shown(data.classes, 10)}, the run in {folder} was trained on "
            f"{shown(state['classes'], 10)}; restore their names and order, or start a new run with out="
        )
    before: dict[str, Any] = state["config"]
    named_before = {"data": before["data"], "extra": (before.get("extra") or {}).get("data")}
    known: dict[str, str] = state.get("content", {})
    for key, value in held.items():
        if key in known and named_before[key] == named[key] and known[key] != value:
            raise DataError(
                f"the content of {named[key]} has changed since the run in {folder} began; restore it, "
                "or start a new run with out="
            )
