"""How logits were computed, read from the autograd graph."""

from torch import Tensor

__all__ = ["unbounded"]

_LINEAR = ("Addmm", "Mm", "Bmm", "Baddbmm", "Mv", "Addmv", "Dot", "Linear", "Convolution", "MkldnnLinear")
_HARMLESS = (
    *("Add", "Sub", "Rsub", "Mul", "Neg", "Sum", "Mean", "Relu", "LeakyRelu"),
    *("View", "UnsafeView", "Reshape", "ReshapeAlias", "T", "Transpose", "Permute", "Expand", "Alias"),
    *("Squeeze", "Unsqueeze", "Slice", "Select", "Split", "Unbind", "Index", "Cat", "Stack"),
    *("Clone", "Copy", "ToCopy", "AccumulateGrad"),
)


def unbounded(logits: Tensor) -> bool:
    """Whether a linear layer gives the `logits`, with nothing after it that keeps them within [0, 1].

    False where the graph does not show this: no graph, compiled code, operations not listed above.
    """
    pending, seen, linear = [logits.grad_fn], set[object](), False
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        name = node.name().split("::")[-1].rstrip("0123456789").removesuffix("Backward") if node else ""
        if name in _LINEAR:
            linear = True
        elif node is None or name not in _HARMLESS:
            return False
        else:
            pending += [parent for parent, _ in node.next_functions if parent is not None]
    return linear
