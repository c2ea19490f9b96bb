"""What the data sets of a run held when it began: a run goes on with nothing else."""

from collections.abc import Mapping
from typing import Any

from robustsabn.data import Data, ImageSet
from robustsabn.data.content import digest
from robustsabn.data.layout import shown
from robustsabn.errors import DataError
from robustsabn.trainers.checkpoints.files import Checkpoint

__all__ = ["check_content", "content"]


def content(data: Data, extra: tuple[ImageSet, int] | None = None) -> dict[str, str]:
    """Digests of the data set and of the extra one, by the key that names it."""
    found = {"data": data.digest}
    return found if extra is None else found | {"extra": digest({"train": extra[0]}, None)}


def check_content(
    folder: object,
    stored: Checkpoint,
    named: Mapping[str, str | None],
    data: Data,
    held: Mapping[str, str],
) -> None:
    """DataError where the classes are not those of the checkpoint, or a set of the same name holds something
    else.

    `named` are the specs of the sets by their keys, `held` is their `content`.
    """
    state = stored.state
    if list(data.classes) != state["classes"]:
        raise DataError(
            f"{data.name} has the classes {shown(data.classes, 10)}, the run in {folder} was trained on "
            f"{shown(state['classes'], 10)}; restore their names and order, or begin another run with out="
        )
    before: dict[str, Any] = state["config"]
    named_before = {"data": before["data"], "extra": (before.get("extra") or {}).get("data")}
    known: dict[str, str] = state.get("content", {})
    for key, value in held.items():
        if key in known and named_before[key] == named[key] and known[key] != value:
            raise DataError(
                f"{named[key]} no longer holds what the run in {folder} was trained on; restore it, "
                "or begin another run with out="
            )
