"""What the data sets of a run held when it began: a run goes on with nothing else."""

from typing import Any

from robustsabn.data import Data, ImageSet
from robustsabn.data.content import digest
from robustsabn.data.layout import shown
from robustsabn.errors import DataError
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.checkpoints.files import Checkpoint

__all__ = ["check_content", "content"]


def content(data: Data, extra: tuple[ImageSet, int] | None) -> dict[str, str]:
    """Digests of the data set and of the extra one, by the key that names it."""
    found = {"data": data.digest}
    return found if extra is None else found | {"extra": digest({"train": extra[0]}, None)}


def check_content(
    folder: object, stored: Checkpoint, config: TrainConfig, data: Data, extra: tuple[ImageSet, int] | None
) -> None:
    """DataError where the classes are not those of the checkpoint, or a set of the same name holds something else."""
    state, now = stored.state, {"data": config.data, "extra": config.extra and config.extra.data}
    if list(data.classes) != state["classes"]:
        raise DataError(
            f"{data.name} has the classes {shown(data.classes, 10)}, the run in {folder} was trained on "
            f"{shown(state['classes'], 10)}; restore their names and order, or begin another run with out="
        )
    before: dict[str, Any] = state["config"]
    named = {"data": before["data"], "extra": (before.get("extra") or {}).get("data")}
    known: dict[str, str] = state.get("content", {})
    for key, value in content(data, extra).items():
        if key in known and named[key] == now[key] and known[key] != value:
            raise DataError(
                f"{now[key]} no longer holds what the run in {folder} was trained on; restore it, "
                "or begin another run with out="
            )
