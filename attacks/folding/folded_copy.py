"""A cheaper copy of a network for the search of an attack, made only if it computes the same function."""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from robustsabn.attacks.folding.graph import Fold, lay_out, rewritten
from robustsabn.attacks.model.logits import Gate, Model
from robustsabn.attacks.model.mode import attack_mode

__all__ = ["Folded", "FoldedCopy", "folded", "following_copy", "same_randomness"]

_WRAPPERS = ("torch.nn.parallel.", "torch.distributed.", "torch._dynamo.", "torch.jit.")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Folded(NamedTuple):
    """The network to search on, or None without a safe copy; `why` says what was not possible, or is ""."""

    model: nn.Module | None
    why: str


class FoldedCopy(NamedTuple):
    """A folded copy, `network`, that can be updated when the weights of its model change.

    `same` pairs each tensor of the copy, before folding, with that of the model. `routed` pairs the layers
    that have a `plain_layer()`."""

    network: nn.Module
    why: str
    same: Sequence[tuple[Tensor, Tensor]]
    routed: Sequence[tuple[nn.Module, Any]]
    folds: Sequence[Fold]

    def refresh(self) -> None:
        """Copy the current weights of the model; the route stays the one it was made for."""
        with torch.no_grad():
            for own, source in self.same:
                own.copy_(source)
            for layer, source in self.routed:
                for own, new in zip(_tensors(layer), _tensors(source.plain_layer()), strict=True):
                    own.copy_(new)
            for fold in self.folds:
                fold.again()


def folded(model: Model, x: Tensor) -> Folded:
    """A copy of `model` in eval mode that computes logits and input gradients with less work.

    Batch norms are folded into the layer before them, parameters become constants, and on a CPU activations
    are stored channels last. A model that cannot be traced only gets the new memory layout, and `why` says
    so. A layer with a method `plain_layer()` is replaced by its result: a layer that treats every image alike
    under the current route, or None if there is none.

    The copy is compared with `model` on the example images `x` (n, ...), which are on the model's device. It
    is refused unless logits agree within 1e-4 of the largest one, predictions are equal, and input gradients
    agree within 1e-3 for most images. It is also refused for a model that is random, changes state, has
    hooks, is wrapped, or has another dtype than `x`. `model` itself does not change."""
    try:
        return Folded(*_mirrored(model, x)[:2])
    except _Refusal as refusal:
        return Folded(None, str(refusal))


def following_copy(model: Model, x: Tensor) -> FoldedCopy | None:
    """Like `folded`, as a copy that can be refreshed when the weights change; None without a safe copy."""
    try:
        return _mirrored(model, x)
    except _Refusal:
        return None


class _Refusal(Exception):
    """The reason why a network cannot be copied or rewritten."""


class _Seen(NamedTuple):
    logits: Tensor
    logits_without_graph: Tensor
    gradient: Tensor


def _fit(model: Model, x: Tensor) -> nn.Module:
    """`model`, if it can be copied; raises _Refusal otherwise."""
    if not isinstance(model, nn.Module):
        raise _Refusal("the model is not an nn.Module")
    for name, module in model.named_modules():
        place = f"{type(module).__name__} {name}".strip()
        if f"{type(module).__module__}.".startswith(_WRAPPERS):
            raise _Refusal(f"{place} wraps a network; pass the network inside")
        if any(getattr(module, hooks) for hooks in _HOOKS):
            raise _Refusal(f"{place} has hooks")
        if is_parametrized(module):
            raise _Refusal(f"{place} is parametrised")
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    if {t.dtype for t in tensors} - {x.dtype} or {t.device for t in tensors} - {x.device}:
        raise _Refusal(f"parameters and buffers are not all {x.dtype} on {x.device}, as the images are")
    return model


def _mirrored(model: Model, x: Tensor) -> FoldedCopy:
    with torch.inference_mode(False), torch.autocast(x.device.type, enabled=False), same_randomness(x):
        return _made(_fit(model, x), x)


def _made(model: nn.Module, x: Tensor) -> FoldedCopy:
    truth, switches_gradients = _truth(model, x)
    with _refusing("it cannot be copied"):
        twin = _copied(model)
    candidates: list[tuple[nn.Module, bool]] = []
    folds: list[Fold] = []
    channels_last, why = x.is_cpu and x.ndim == 4, ""
    try:
        with _refusing("not rewritten"):
            if switches_gradients:
                raise _Refusal("its forward switches gradients")
            new, folds = rewritten(twin, x)
        candidates = [(new, True), (new, False)] if channels_last else [(new, False)]
    except _Refusal as refusal:
        why = str(refusal)
    if channels_last:
        candidates.append((twin, True))
    for network, last in candidates:
        lay_out(network, last)
        trouble = _trouble(network, x, truth)
        if not trouble:
            return FoldedCopy(network, why, *_pairs(twin, model), [] if network is twin else folds)
        why = why or f"not rewritten: the rewritten network {trouble}"
    raise _Refusal(why)


def _trouble(network: nn.Module, x: Tensor, truth: "_Seen") -> str:
    try:
        with _refusing("fails"):
            agree = _agree(_seen(network, x), truth)
    except _Refusal as refusal:
        return str(refusal)
    return "" if agree else "computes something else"


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn any error inside the block into a _Refusal that begins with `what`."""
    try:
        yield
    except Exception as error:
        raise _Refusal(f"{what}: {error}") from error


def _truth(model: nn.Module, x: Tensor) -> tuple[_Seen, bool]:
    """The results of the model itself, and whether its forward switches gradients off."""
    context = _Context(x.device)
    with attack_mode(model), _refusing("the network fails on the example"):
        first = _seen(model, x)
        before = _state(model), _randomness(x)
        with torch.enable_grad(), context:
            model(x.clone())
        second = _seen(model, x)
        if before != (_state(model), _randomness(x)) or not _agree(first, second):
            raise _Refusal("the network is random or changes while it runs")
        if context.autocast:
            raise _Refusal(
                "its forward switches autocast, and a copy would round differently in half precision"
            )
    return first, context.without_gradients


def _seen(network: nn.Module, x: Tensor) -> _Seen:
    logits_of = Gate(network, x)
    with torch.no_grad():
        quiet = logits_of(x)
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        logits = logits_of(leaf)
        direction = torch.arange(1.0, logits.numel() + 1, device=x.device).sin().view_as(logits)
        (gradient,) = torch.autograd.grad(logits, leaf, direction.to(logits))
    return _Seen(logits.detach(), quiet, gradient)


def _agree(copied: _Seen, truth: _Seen) -> bool:
    if not torch.equal(copied.logits.argmax(1), truth.logits.argmax(1)):
        return False
    for logits in copied.logits, copied.logits_without_graph:
        if not (logits - truth.logits).abs().max() <= 1e-4 * truth.logits.abs().max():
            return False
    # rounding may flip a ReLU or maximum at a tie, which changes the gradient of one image but not of most
    parts = copied.gradient - truth.gradient, truth.gradient
    off, size = (part.double().flatten(1).norm(dim=1) for part in parts)
    return bool((off <= 1e-3 * size).double().mean() > 0.5 and (off <= 0.1 * size).all())


def _is_routed(module: nn.Module) -> TypeGuard[Any]:
    return callable(getattr(module, "plain_layer", None))


def _tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a module, without those of its submodules."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _pairs(
    twin: nn.Module, model: nn.Module
) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[nn.Module, nn.Module]]]:
    """Pairs of tensors (copy, model) to copy directly, and pairs of layers whose tensors are computed."""
    modules = [(twin.get_submodule(name), module) for name, module in model.named_modules()]
    routed = [pair for pair in modules if _is_routed(pair[1])]
    others = [pair for pair in modules if not _is_routed(pair[1])]
    return [pair for a, b in others for pair in zip(_tensors(a), _tensors(b), strict=True)], routed


def _copied(model: nn.Module) -> nn.Module:
    """A copy in eval mode, with constant parameters, that shares no memory with the model."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        if _is_routed(module):
            memo[id(module)] = module.plain_layer()
            if memo[id(module)] is None:
                raise _Refusal(f"{type(module).__name__} treats the images of a batch differently")
    twin = copy.deepcopy(model, memo)
    for module in twin.modules():
        module.training = False
    twin.requires_grad_(False)
    storages = [
        {t.untyped_storage().data_ptr() for t in (*m.parameters(), *m.buffers())} for m in (model, twin)
    ]
    if storages[0] & storages[1] - {0}:
        raise _Refusal("copies of the network share its memory")
    return twin


class _Context(TorchFunctionMode):
    """Detects torch calls in another gradient or autocast mode than outside, which a trace would lose."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device.type
        self.without_gradients = self.autocast = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.without_gradients |= not torch.is_grad_enabled()
        self.autocast |= torch.is_autocast_enabled(self.device)
        return func(*args, **(kwargs or {}))


def _state(model: nn.Module) -> list[object]:
    """Version counters of a model's tensors, and its plain attributes."""
    versions: list[object] = [t._version for t in (*model.parameters(), *model.buffers())]
    plain = (bool, int, float, str)
    return versions + [
        (name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, plain)
    ]


def _randomness(x: Tensor) -> tuple[object, ...]:
    """States of the generators that a network may draw from."""
    on_device = torch.cuda.get_rng_state(x.device).tolist() if x.is_cuda else None
    _, keys, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().tolist(), on_device, random.getstate(), np.asarray(keys).tobytes(), rest


@contextmanager
def same_randomness(x: Tensor) -> Iterator[None]:
    """Restore, after the block, the generators that a network may draw from."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
