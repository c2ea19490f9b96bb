"""Arguments that several verbs share."""

import torch

from robustsabn.config import number
from robustsabn.errors import UsageError
from robustsabn.text import quote

__all__ = ["above_zero", "at_least_one", "device"]


def above_zero(name: str, text: str | None) -> float | None:
    """The number above zero that `text` writes, such as 2/255."""
    value = None if text is None else number(text)
    if text is not None and (value is None or value <= 0):
        raise UsageError(f"{name} must be a number above 0, such as 2/255; got {quote(text)}")
    return value


def at_least_one(name: str, value: int | None) -> None:
    """Refuse a count below one."""
    if value is not None and value < 1:
        raise UsageError(f"{name} must be at least 1, got {value}")


def device(text: str | None) -> torch.device | None:
    """The device that `--device` names, if it is there."""
    if text is None:
        return None
    try:
        asked = torch.device(text)
    except RuntimeError:
        raise UsageError(f"--device {quote(text)} is unknown; write cpu, cuda or cuda:N") from None
    if asked.type == "cuda" and (asked.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {text}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    if asked.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {quote(text)} is not supported; write cpu, cuda or cuda:N")
    return asked
