"""The last layer of a classifier, which has a row for each class."""

from collections.abc import Mapping

from torch import Tensor, nn

from robustsabn.errors import ModelError

__all__ = ["head_of", "other_head"]


def other_head(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[list[str], int, int] | None:
    """The tensors of last layers of which `state` has another number of rows, and the two numbers: its own, the model's.

    None unless they are all that does not fit: matrices or kernels with other rows alone, with the biases beside them.
    """
    own = model.state_dict()
    names = [k for k in own if k in state and own[k].shape != state[k].shape]
    rows = {(len(state[k]), len(own[k])) for k in names if own[k].dim() and state[k].dim()}
    layers = {k.rpartition(".")[0] for k in names if own[k].dim() > 1}
    fine = all(k.rpartition(".")[0] in layers and own[k].shape[1:] == state[k].shape[1:] for k in names)
    return (names, *rows.pop()) if len(rows) == 1 and fine else None


def head_of(model: nn.Module, classes: int) -> list[str]:
    """The names of the tensors of the last layer, that which has a row for each of `classes` and comes last."""
    for place, module in reversed(list(model.named_modules())):
        own = dict(module.named_parameters(place, recurse=False))
        if any(p.dim() > 1 and len(p) == classes for p in own.values()):
            return list(own)
    raise ModelError(f"fresh_head: no layer of the network has {classes} rows, one for each class")
