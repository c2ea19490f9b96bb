"""The last layer of a classifier, which has one row per class."""

from collections.abc import Mapping

from torch import Tensor, nn

from robustsabn.errors import ModelError

__all__ = ["head_of", "other_head"]


def other_head(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[list[str], int, int] | None:
    """The tensors of last layers that have another number of rows in `state`, and both numbers of rows.

    The numbers are that of `state` and that of the model. None if anything else does not fit, or nothing.
    """
    own = model.state_dict()
    names = [k for k in own if k in state and own[k].shape != state[k].shape]
    rows = {(len(state[k]), len(own[k])) for k in names if own[k].dim() and state[k].dim()}
    layers = {k.rpartition(".")[0] for k in names if own[k].dim() > 1}
    only_rows_differ = all(
        k.rpartition(".")[0] in layers and own[k].shape[1:] == state[k].shape[1:] for k in names
    )
    return (names, *rows.pop()) if len(rows) == 1 and only_rows_differ else None


def head_of(model: nn.Module, classes: int) -> list[str]:
    """The names of the tensors of the last layer with one row per class."""
    for place, module in reversed(list(model.named_modules())):
        own = dict(module.named_parameters(place, recurse=False))
        if any(p.dim() > 1 and len(p) == classes for p in own.values()):
            return list(own)
    raise ModelError(
        f"fresh_head: no layer of the network has {classes} rows, one per class; give a network for "
        f"{classes} classes"
    )
