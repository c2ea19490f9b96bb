"""Sets of the user's own: datasets and loaders of torch, of Hugging Face, and tensors."""

from robustsabn.data.own.items import ItemSet
from robustsabn.data.own.parts import is_loader, own_parts

__all__ = ["ItemSet", "is_loader", "own_parts"]
