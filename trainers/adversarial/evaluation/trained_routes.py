"""The routes that a training method trains; accuracies of other routes are meaningless."""

from torch import nn

from robustsabn.layers.base import RoutedNorm
from robustsabn.routing import routers_of, routes_of
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.methods import METHODS, Method

__all__ = ["plain_note", "trained_routes", "untrained_note"]


def trained_routes(method: Method, model: nn.Module) -> tuple[str, ...]:
    """The routes of `model` that `method` trains; empty if the model has no routes.

    All routes if none has statistics or parameters of its own. Otherwise a method may train only the first
    route (`trains` is `clean`) or the last (`adv`).
    """
    names, trains = routes_of(model), method.trains
    if trains is None or not _apart(model):
        return names
    return names[:1] if trains == "clean" else names[-1:]


def untrained_note(config: TrainConfig, model: nn.Module) -> str | None:
    """A warning if the configured method leaves routes of `model` untrained."""
    names, trained = routes_of(model), trained_routes(config.method, model)
    left = [name for name in names if name not in trained]
    if not left:
        return None
    return (
        f"warning: method {_name(config.method)} trains the route {trained[0]} alone; norm {config.norm} "
        f"gives routes statistics or parameters of their own, so {', '.join(left)} stays untrained and is "
        "neither validated nor tested; set norm=none, or a method for both such as method=paired"
    )


def plain_note(config: TrainConfig) -> str | None:
    """A line where the method trains one route and the network has none."""
    if config.norm != "none" or config.method.trains is None:
        return None
    return f"method {_name(config.method)} trains one route: the network stays as it is (norm=none)"


def _name(method: Method) -> str:
    return next((name for name, cls in METHODS.items() if cls is type(method)), "here")


def _apart(model: nn.Module) -> bool:
    """Whether any layer has separate statistics or parameters for each route."""
    layers = [layer for readers in routers_of(model).values() for layer in readers]
    return not all(
        isinstance(layer, RoutedNorm) and layer.statistics == "shared" and layer.affine in ("shared", "none")
        for layer in layers
    )
