"""Networks and data sets given as objects: a configuration mentions them by a name."""

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robustsabn.config.given import PREFIX, is_given, known, name_given
from robustsabn.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from robustsabn.trainers.config import RunConfig

__all__ = ["check_given", "named", "network_name"]


def named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with the names of a network in `model` and of data sets in `data` and `extra`.

    The batch size of a DataLoader becomes `batch_size` if `settings` have none.
    """
    told = dict(settings)
    if "model" in told and not _is_text(told["model"]):
        told["model"] = network_name(told["model"])
    if "data" in told and not _is_text(told["data"]):
        size = _batch_size(told["data"])
        told["data"] = _data_name(told["data"])
        if size is not None:
            told.setdefault("batch_size", size)
    extra = told.get("extra")
    if isinstance(extra, Mapping) and not _is_text(extra.get("data")):
        told["extra"] = {**extra, "data": _data_name(extra["data"])}
    return told


def check_given(config: "RunConfig") -> None:
    """Raise ConfigError if the configuration mentions objects that this process has not been given."""
    mentioned = {
        "model": getattr(config, "model", None),
        "data": config.data,
        "extra.data": getattr(getattr(config, "extra", None), "data", None),
    }
    lost = {key: spec for key, spec in mentioned.items() if is_given(spec) and not known(str(spec))}
    if lost:
        listed = ", ".join(f"{key} ({str(spec).removeprefix(PREFIX)})" for key, spec in lost.items())
        again = ", ".join(f"{key.partition('.')[0]}=…" for key in lost)
        raise ConfigError(
            f"the run was given objects in Python: {listed}; give them again: "
            f"robustsabn.train('{config.out or 'runs/NAME'}/config.yaml', {again}, resume=True)"
        )


def network_name(model: Any) -> str:
    """The name of a network: its class, and a hash of its layers and the shapes of its tensors."""
    from torch import nn

    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model is {type(model).__name__}; give a torch.nn.Module, or text such as net.py:FUNCTION"
        )
    return name_given(model, type(model).__name__, _architecture(model))


def _architecture(model: "nn.Module") -> str:
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    layers = re.sub(r" at 0x[0-9a-f]+", "", repr(model))
    return hashlib.blake2b(f"{layers}{shapes}".encode()).hexdigest()


def _data_name(data: Any) -> str:
    from robustsabn.data.content import digest
    from robustsabn.data.sources import own_source

    kind = _kind(data)
    source = own_source(data, kind)
    return name_given(source, kind, digest(source.parts, source.names))


def _kind(data: Any) -> str:
    """The class of the training part, in words for messages."""
    if isinstance(data, Mapping):
        data = next(iter(data.values()), data)
    if isinstance(data, (tuple, list)) and data:
        data = data[0]
    inner = getattr(data, "dataset", data)
    return type(inner).__name__


def _batch_size(data: Any) -> int | None:
    """The batch size of the training part, if that is a DataLoader."""
    from robustsabn.data.own import is_loader

    train: Any = data
    if isinstance(data, Mapping):
        train = next((part for name, part in data.items() if str(name).startswith("train")), None)
    elif isinstance(data, (tuple, list)) and data:
        train = data[0]
    return train.batch_size if is_loader(train) else None


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)
