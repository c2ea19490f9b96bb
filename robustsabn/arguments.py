"""Checks of arguments of public functions: type and range."""

import torch
from torch import Tensor, nn

from robustsabn.errors import RobustsabnError
from robustsabn.scalars import real, whole
from robustsabn.text import quote

__all__ = ["a_device", "a_dtype", "a_module", "a_number", "a_tensor", "a_whole_number"]

LARGEST_SIZE = 2**31 - 1
"""Largest size of a tensor's dimension; a larger number is a typing error."""

LARGEST_FLOAT = torch.finfo(torch.float32).max

Kind = type[RobustsabnError]


def a_whole_number(name: str, value: object, error: Kind, least: int = 1, most: int = LARGEST_SIZE) -> int:
    """`value` as an int from `least` to `most`; raises `error` otherwise."""
    number = whole(value)
    if number is None or not least <= number <= most:
        end = f" and at most {most}" if (real(value) or 0) > most else ""
        raise error(f"{name} is {quote(value)}; give a whole number of at least {least}{end}")
    return number


def a_number(name: str, value: object, error: Kind, most: float = LARGEST_FLOAT) -> float:
    """`value` as a float from 0 to `most`; raises `error` otherwise."""
    number = real(value)
    if number is None or not 0 <= number <= most:
        raise error(f"{name} is {quote(value)}; give a number from 0 to {most:g}")
    return number


def a_tensor(name: str, value: object, error: Kind) -> Tensor:
    """`value` if it is a tensor; raises `error` otherwise."""
    if not isinstance(value, Tensor):
        raise error(f"{name} is {quote(value)}; give a torch.Tensor")
    return value


def a_module(name: str, value: object, error: Kind) -> nn.Module:
    """`value` if it is a module; raises `error` otherwise."""
    if not isinstance(value, nn.Module):
        raise error(f"{name} is {quote(value)}; give a torch.nn.Module")
    return value


def a_device(value: object, error: Kind) -> torch.device:
    """`value` as a device that torch knows; raises `error` otherwise."""
    try:
        if isinstance(value, (str, torch.device)):
            return torch.device(value)
    except RuntimeError:
        pass
    raise error(f"device is {quote(value)}; write cpu, cuda or cuda:N")


def a_dtype(value: object, error: Kind) -> torch.dtype:
    """`value` if it is a floating dtype; raises `error` otherwise."""
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise error(f"dtype is {quote(value)}; give a floating dtype such as torch.float32")
    return value
