"""What the routes do to clean and to adversarial images."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustsabn.analysis import RouteBatch, route_gradients, route_statistics
from robustsabn.attacks import PGD
from robustsabn.routing import maybe_route
from robustsabn.trainers.loop.compiling import uncompiled
from robustsabn.trainers.runs.analysis import analysis_record
from robustsabn.trainers.runs.metrics import Record

__all__ = ["analysed"]


def analysed(
    model: nn.Module, routes: tuple[str, ...], attack: PGD, x: Tensor, y: Tensor, delta0: Tensor
) -> Record:
    """Gradients, affines and statistics of clean images on the first and attacked ones on the last route.

    `routes` are those that the method trains; none: the model is plain. Images x (N, C, H, W), labels y (N,),
    and the start `delta0` of the attack.
    """
    first, last = (routes[0], routes[-1]) if routes else (0, 0)
    with uncompiled(model):
        with maybe_route(model, last):
            x_adv = attack(model, x, y, delta0=delta0)
        batches = [RouteBatch(first, x, y, name="clean"), RouteBatch(last, x_adv, y, name="adv")]
        gradients = route_gradients(model, routes=batches)
        normed = any(isinstance(module, _BatchNorm) for module in model.modules())
        apart = route_statistics(model, routes=batches).layers if normed else ()
    return analysis_record(model, gradients, apart, named=True)
