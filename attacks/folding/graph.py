"""Rewrites a network in eval mode into a graph with fewer passes over its activations."""

import copy
import inspect
import operator
import warnings
from collections import Counter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["Fold", "lay_out", "rewritten"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_QUESTIONS = (
    getattr,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.mod,
)
_ADD = (operator.add, torch.add)
_RELU = (torch.relu, torch.relu_, F.relu, F.relu_)


class Fold(NamedTuple):
    """One folded batch norm: `target` replaces `layer` and the norm.

    `layer` is None if `target` is only a scale and shift. `values` are the norm's running mean and variance,
    weight and bias.
    """

    target: nn.Module
    layer: nn.Module | None
    values: tuple[Tensor, Tensor, Tensor | None, Tensor | None]
    eps: float

    def again(self) -> None:
        """Fold again, with the current `layer` and `values`."""
        scale, shift = _affine(self.values, self.eps)
        if self.layer is not None:
            scale, shift = _with_affine(self.layer, scale, shift)
        for old, new in zip((*self.target.parameters(), *self.target.buffers()), (scale, shift), strict=True):
            old.copy_(new.view_as(old))


def rewritten(network: nn.Module, x: Tensor) -> tuple[fx.GraphModule, list[Fold]]:
    """`network`, in eval mode, traced with torch.fx and simplified, and its folded norms; `x` is an example
    batch.

    Batch norms are folded into the convolution or linear layer before them, or become one scale and shift.
    ReLUs and sums work in place where nothing else reads their input. Dropout and assertions are removed.
    Modules without a batch norm inside are called as they are. The result shares submodules with `network`.
    Raises whatever tracing raises."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        graph = _Tracer().trace(network, concrete_args=_defaults(network))
        traced = fx.GraphModule(network, graph)
        _Shapes(traced).run(x.clone())
    for node in list(graph.nodes):
        if isinstance(_module(traced, node), _IDLE):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    _sweep(graph)
    folds = _fold_norms(traced)
    _work_in_place(traced)
    _sweep(graph)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced, folds


def lay_out(network: nn.Module, channels_last: bool) -> None:
    """Set the memory layout of the weights, and so of activations: channels last, or contiguous.

    With channels last, convolutions of large weights on few pixels stay contiguous in a rewritten network:
    oneDNN runs the last stage of a ResNet-18 on 32x32 images twice as fast that way.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]
    if not channels_last or not isinstance(network, fx.GraphModule):
        return
    for node in network.graph.nodes:
        module = _module(network, node)
        if type(module) is nn.Conv2d:
            weights, pixels = module.weight.numel(), node.meta["shape"][1:].numel()
            if weights > 2**19 and weights > 64 * pixels:
                module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
                with network.graph.inserting_before(node):
                    node.args = (network.graph.call_method("contiguous", (node.args[0],)), *node.args[1:])
    network.recompile()


def _holds_norm(module: nn.Module) -> bool:
    """Whether `module` has a batch norm inside."""
    return any(isinstance(part, _BatchNorm) for part in module.modules())


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        closed = not isinstance(m, nn.Sequential) and not _holds_norm(m)
        return closed or super().is_leaf_module(m, module_qualified_name)


class _Shapes(fx.Interpreter):
    """Records the shape of every tensor, before any operation works in place."""

    def run_node(self, n: fx.Node) -> Any:
        out = super().run_node(n)
        if isinstance(out, Tensor):
            n.meta["shape"] = out.shape
        return out


class _ScaleShift(nn.Module):
    """A batch norm with no layer before it to fold into: scale and shift (C,) over x (N, C, *)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor, rank: int) -> None:
        super().__init__()
        for name, value in (("scale", scale), ("shift", shift)):
            self.register_buffer(name, value.reshape(-1, *(1,) * (rank - 2)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


def _sweep(graph: fx.Graph) -> None:
    """Erase assertions, and reads and comparisons that only they used."""
    for node in reversed(graph.nodes):
        idle = node.op == "get_attr" or (node.op == "call_function" and node.target in _QUESTIONS)
        if (idle and not node.users) or (node.op == "call_function" and node.target is torch._assert):
            graph.erase_node(node)


def _defaults(network: nn.Module) -> dict[str, Any]:
    """The default values of forward's arguments after the images, which are constants of the graph."""
    later = list(inspect.signature(network.forward).parameters.values())[1:]
    return {p.name: p.default for p in later if p.default is not p.empty}


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _fold_norms(traced: fx.GraphModule) -> list[Fold]:
    graph, folds = traced.graph, []
    calls = Counter(map(id, (_module(traced, node) for node in graph.nodes)))
    for node in list(graph.nodes):
        norm = _norm(traced, node)
        if norm is None:
            continue
        source: fx.Node = node.args[0]
        before = _module(traced, source)
        alone = len(source.users) == 1 and calls[id(before)] == 1
        scale, shift = _affine(*norm)
        new: nn.Module
        if alone and _takes_affine(before, source):
            new, replaced, layer = _layer_like(before, *_with_affine(before, scale, shift)), source, before
            node.replace_all_uses_with(source)
        else:
            rank, dtype = len(source.meta["shape"]), _dtype(traced)
            new, replaced, layer = _ScaleShift(scale.to(dtype), shift.to(dtype), rank), node, None
        folds.append(Fold(new, layer, *norm))
        name = f"folded_{node.name}"
        traced.add_submodule(name, new)
        with graph.inserting_before(replaced):
            call = graph.call_module(name, (replaced.args[0],))
        call.meta["shape"] = node.meta["shape"]
        replaced.replace_all_uses_with(call)
        for old in dict.fromkeys((node, replaced)):
            graph.erase_node(old)
    return folds


def _norm(traced: fx.GraphModule, node: fx.Node) -> tuple[Any, float] | None:
    """Running mean, running variance, weight, bias, and eps of a batch norm in eval mode; None otherwise."""
    module = _module(traced, node)
    if type(module) in _NORMS and len(node.args) == 1:
        norm: Any = module
        values = [norm.running_mean, norm.running_var, norm.weight, norm.bias]
        eps = norm.eps
    elif node.op == "call_function" and node.target is F.batch_norm and isinstance(node.args[0], fx.Node):
        bound = inspect.signature(F.batch_norm).bind(*node.args, **node.kwargs)
        bound.apply_defaults()
        if bound.arguments["training"] is not False:
            return None
        names = ("running_mean", "running_var", "weight", "bias")
        sources = [bound.arguments[name] for name in names]
        if any(isinstance(s, fx.Node) and s.op != "get_attr" for s in sources):
            return None
        values = [None if s is None else operator.attrgetter(s.target)(traced) for s in sources]
        eps = bound.arguments["eps"]
    else:
        return None
    return None if values[0] is None or values[1] is None else (tuple(values), eps)


def _affine(values: tuple[Tensor, Tensor, Tensor | None, Tensor | None], eps: float) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) of a batch norm, in float64."""
    mean, var, weight, bias = (None if value is None else value.detach().double() for value in values)
    assert mean is not None
    assert var is not None
    scale = torch.rsqrt(var + eps) * (1 if weight is None else weight)
    return scale, (0 if bias is None else bias) - mean * scale


def _takes_affine(module: nn.Module | None, node: fx.Node) -> bool:
    """Whether the norm's channels are the layer's output features."""
    if len(node.args) != 1:
        return False
    if type(module) in _CONVOLUTIONS:
        return len(node.meta["shape"]) == module.weight.ndim  # type: ignore[union-attr]
    return type(module) is nn.Linear and len(node.meta["shape"]) == 2


def _with_affine(layer: Any, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution or linear layer that computes scale * layer(x) + shift."""
    weight = layer.weight.detach()
    rows = scale.view(-1, *(1,) * (weight.ndim - 1))
    shift = shift if layer.bias is None else shift + scale * layer.bias.detach()
    return (weight * rows).to(weight.dtype), shift.to(weight.dtype)


def _layer_like(layer: Any, weight: Tensor, bias: Tensor) -> nn.Module:
    new = copy.deepcopy(layer)
    new.weight, new.bias = (nn.Parameter(value, requires_grad=False) for value in (weight, bias))
    return new  # type: ignore[no-any-return]


def _dtype(traced: fx.GraphModule) -> torch.dtype:
    return next(value.dtype for value in traced.parameters() if value.is_floating_point())


def _work_in_place(traced: fx.GraphModule) -> None:
    """Let ReLUs and sums overwrite an argument that only they read and that no backward needs."""
    for node in traced.graph.nodes:
        if node.op == "call_function" and node.target in _ADD and len(node.args) == 2 and not node.kwargs:
            a, b = node.args
            if _spare(traced, a, node):
                node.target = operator.iadd
            elif _spare(traced, b, node):
                node.target, node.args = operator.iadd, (b, a)
        elif _is_relu(traced, node) and _spare(traced, node.args[0], node):
            node.op, node.target = "call_function", torch.relu_
            node.args, node.kwargs = (node.args[0],), {}


def _is_relu(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return type(_module(traced, node)) is nn.ReLU
    return node.op == "call_function" and node.target in _RELU


def _spare(traced: fx.GraphModule, value: Any, reader: fx.Node) -> bool:
    """Whether a value may be overwritten by its `reader`."""
    if not isinstance(value, fx.Node) or set(value.users) != {reader}:
        return False
    if "shape" not in value.meta or value.meta["shape"] != reader.meta.get("shape"):
        return False
    if value.op == "call_module":
        return type(_module(traced, value)) in (*_CONVOLUTIONS, nn.Linear, _ScaleShift)
    if value.op != "call_function" or not all(isinstance(part, fx.Node) for part in value.args):
        return False
    return value.target in _ADD or (value.target is operator.iadd and _spare(traced, value.args[0], value))
