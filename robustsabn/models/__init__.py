"""Networks by name, and any classifier by its specification and weight file."""

from robustsabn.models.normalize import Normalize
from robustsabn.models.registry import build, names
from robustsabn.models.spec import resolve
from robustsabn.models.weights import load_weights, read_weights

__all__ = ["Normalize", "build", "load_weights", "names", "read_weights", "resolve"]
