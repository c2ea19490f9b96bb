"""What autograd remembers of how logits were made."""

from collections.abc import Iterable

from torch import Tensor

__all__ = ["unbounded"]

_LINEAR = ("Addmm", "Mm", "Bmm", "Baddbmm", "Mv", "Addmv", "Dot", "Linear", "Convolution", "MkldnnLinear")
_HARMLESS = (
    *("Add", "Sub", "Rsub", "Mul", "Neg", "Sum", "Mean", "Relu", "LeakyRelu"),
    *("View", "UnsafeView", "Reshape", "ReshapeAlias", "T", "Transpose", "Permute", "Expand", "Alias"),
    *("Squeeze", "Unsqueeze", "Slice", "Select", "Split", "Unbind", "Index", "Cat", "Stack"),
    *("Clone", "Copy", "ToCopy"),
)


def unbounded(logits: Tensor) -> bool:
    """Whether `logits` are sums of products, or linear layers' outputs, that nothing keeps within [0, 1].

    False where autograd does not tell: no graph, compiled code, operations that are not known here.
    """
    left, seen, linear = [logits.grad_fn], set[object](), False
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        name = (
            "" if node is None else node.name().split("::")[-1].rstrip("0123456789").removesuffix("Backward")
        )
        if name in _LINEAR:
            linear = True
        elif node is None or name not in _HARMLESS:
            return False
        else:
            parents: Iterable[tuple[object, int]] = node.next_functions
            left += [parent for parent, _ in parents if parent is not None and not _is_leaf(parent)]
    return linear


def _is_leaf(node: object) -> bool:
    return type(node).__name__ == "AccumulateGrad"
