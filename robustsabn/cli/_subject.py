"""What is attacked: a classifier as it is deployed, and the images."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustsabn.attacks.logits import Gate
from robustsabn.data.specs import load_test_named
from robustsabn.errors import InputError, RouteError
from robustsabn.models import names, resolve
from robustsabn.routing import routes_of
from robustsabn.text import quote

__all__ = ["Subject", "prepare"]


@dataclass(frozen=True)
class Subject:
    """A plain network in eval mode, images x (N, C, H, W) in [0, 1] on the CPU with labels y (N,) and numbers ids (N,).

    `classes` names the labels where the data does; `about` says what all this is.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    ids: Tensor
    classes: tuple[str, ...] | None
    about: dict[str, str]
    device: torch.device

    def there(self) -> tuple[Tensor, Tensor]:
        """Images and labels on the model's device."""
        return self.x.to(self.device), self.y.to(self.device)


def prepare(
    model: str,
    data: str,
    *,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    n: int | None = None,
    route: str | None = None,
    device: torch.device | str = "cpu",
) -> Subject:
    """The network that `model` names on `device`, and `n` test images of `data`, all by default.

    A model with routes becomes the plain network of `route`, the last by default. Without `num_classes` a network that
    is built here gets as many classes as the data has. Raises ModelError, DataError, RouteError, CheckpointError, and
    InputError for outputs that are not logits.
    """
    whole, classes = load_test_named(data)
    images = whole.sample(n)
    if num_classes is None and classes is not None:
        num_classes = len(classes)
    elif num_classes is None and (weights is None or model not in names()):  # those are told by their weights
        num_classes = max(2, int(whole.labels.max()) + 1)
    network = resolve(model, weights=weights, num_classes=num_classes, in_channels=images.shape[0])
    about = {"model": model, "data": data}
    if weights is not None:
        about["weights"] = str(weights)
    routes = routes_of(network)
    if route is not None and route not in routes:
        raise RouteError(
            f"no route {quote(route)}: {model} has {', '.join(routes) or 'none, leave --route out'}"
        )
    if routes:
        from robustsabn.baking import bake

        about["route"] = route or routes[-1]
        network = bake(network, about["route"])
    x, y = images.batch(torch.arange(len(images)))
    network = network.to(device).eval()
    _check(network, x, model, data, device)
    return Subject(network, x, y, images.ids, classes, about, torch.device(device))


def _check(network: nn.Module, x: Tensor, model: str, data: str, device: torch.device | str) -> None:
    try:
        with torch.no_grad():
            Gate(network, x)(x[:1].to(device))
    except InputError as error:
        raise InputError(f"{model} on {data}: {error}") from error
