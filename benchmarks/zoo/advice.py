"""Conversion as a user would do it, by following the advice of messages exactly."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from robustsabn import convert
from robustsabn.errors import ConversionError
from zoo.subject import Different

__all__ = ["converted"]

FILTER = re.compile(r"filter_fn=(lambda module, name: .*)", re.DOTALL)
KNOWN = re.compile(r"known=\{(\w+): (.+?)\}")


def advised_filter(message: str) -> Callable[[nn.Module, str], bool] | None:
    """The filter that a message advises; None if it advises none."""
    advice = FILTER.search(message)
    for end in range(len(advice[1]) if advice else 0, 24, -1):
        try:
            return eval(advice[1][:end], {})  # type: ignore[index,no-any-return]
        except SyntaxError:
            continue
    return None


def advised_known(message: str, model: nn.Module) -> dict[type[nn.Module], Any]:
    """What classes are, as a message proposes it."""
    classes = {type(module).__name__: type(module) for module in model.modules()}
    return {classes[name]: eval(kind, {}) for name, kind in KNOWN.findall(message) if name in classes}


def converted(plain: nn.Module, norm: str, said: list[str]) -> tuple[nn.Module, str]:
    """A converted copy, and the options and messages on the way; the advice of messages is followed exactly.

    Raises ConversionError if there is no advice, and Different if it does not help.
    """
    options: dict[str, Any] = {}
    for _ in range(4):
        model = copy.deepcopy(plain)
        before = [type(module) for module in model.modules()]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                convert(model, norm, **options)
                messages, refused = [str(each.message) for each in caught], False
            except ConversionError as refusal:
                if [type(module) for module in model.modules()] != before:
                    raise Different("refused, and the model was touched") from refusal
                messages, refused = [str(refusal)], True
        said += messages
        more = _more(plain, norm, " ".join(messages), options, refused)
        if not refused and not more:
            return model, ", ".join(sorted(options))
        if not more:
            if options:
                raise Different(f"the advice does not help: {' THEN '.join(said)}")
            raise ConversionError(said[-1])
        options |= more
    raise Different(f"no end of advice: {' THEN '.join(said)}")


def _more(
    plain: nn.Module, norm: str, message: str, options: dict[str, Any], refused: bool
) -> dict[str, Any]:
    """What a message advises besides the options given; where it offers a choice, both ways are tried."""
    known, filter_fn = advised_known(message, plain), advised_filter(message) if refused else None
    if known.keys() - options.get("known", {}).keys():
        if filter_fn is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                convert(copy.deepcopy(plain), norm, **options, filter_fn=filter_fn)
        return {"known": {**options.get("known", {}), **known}}
    return {} if filter_fn is None or "filter_fn" in options else {"filter_fn": filter_fn}
