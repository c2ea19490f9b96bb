"""A device without values (`meta`) instead of a GPU: it refuses mixed devices and every read of a value.

A GPU also waits for copies from the host, which `meta` allows; these are recorded here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["META", "Copies", "Looks", "no_copies"]

META = torch.device("meta")


class Copies(TorchFunctionMode):
    """Records calls inside the block that copy from the host to the device, for which a GPU would wait.

    Copies with `non_blocking` are not among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if name in ("__getitem__", "__setitem__") and args[0].is_meta:
            numbers = name == "__setitem__" and not isinstance(args[2], Tensor) and not args[0][args[1]].ndim
            index = tree_leaves(args[1])
            if numbers or isinstance(args[1], list) or any(isinstance(i, Tensor) and i.is_cpu for i in index):
                self.found.append(name)
        elif (
            isinstance(result, Tensor)
            and result.is_meta
            and name not in ("__get__", "empty_like", "new_empty")
            and not (kwargs or {}).get("non_blocking")
        ):
            made = name in ("tensor", "as_tensor", "new_tensor", "asarray")
            if made or any(t.is_cpu and (t.ndim or name in ("to", "cuda", "copy_", "type")) for t in tensors):
                self.found.append(name)
        return result


class Looks(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the looks at values inside the block, for what a device without values cannot run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name == "index" and any(t.dtype == torch.bool for t in tree_leaves(args[1]) if t is not None)
        self.count += masks or name in (
            "_local_scalar_dense",
            "nonzero",
            "equal",
            "masked_select",
            "_unique2",
        )
        return func(*args, **(kwargs or {}))


@contextmanager
def no_copies() -> Iterator[None]:
    """AssertionError where anything inside copies from the host to the device."""
    with Copies() as copies:
        yield
    assert not copies.found, f"copied from the host: {copies.found}"
