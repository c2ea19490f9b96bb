"""Arguments that several commands share."""

import torch

from robustsabn.config import number
from robustsabn.errors import UsageError
from robustsabn.text import quote

__all__ = ["above_zero", "at_least_one", "device"]


def above_zero(name: str, text: str | None) -> float | None:
    """The number in `text`, such as 2/255; UsageError unless it is above 0. None stays None."""
    value = None if text is None else number(text)
    if text is not None and (value is None or value <= 0):
        raise UsageError(f"{name} must be a number above 0, such as 2/255; got {quote(text)}")
    return value


def at_least_one(name: str, value: int | None) -> None:
    """Raise UsageError for a count below one."""
    if value is not None and value < 1:
        raise UsageError(f"{name} must be at least 1, got {value}")


def device(text: str | None) -> torch.device | None:
    """The device that `--device` names; UsageError if it does not exist. None stays None."""
    if text is None:
        return None
    try:
        chosen = torch.device(text)
    except RuntimeError:
        raise UsageError(f"--device {quote(text)} is unknown; give cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {text}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    if chosen.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {quote(text)} is not supported; give cpu, cuda or cuda:N")
    return chosen
