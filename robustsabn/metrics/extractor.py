"""A frozen network that computes features of images, with its name and a digest of its contents."""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustsabn.errors import ModelError
from robustsabn.text import one_line, quote

__all__ = ["Extractor", "Output", "content_of"]


class Output(NamedTuple):
    """Features (N, D), and logits (N, K) if the network is a classifier."""

    features: Tensor
    logits: Tensor | None


@dataclass(frozen=True, eq=False)
class Extractor:
    """Images (N, C, H, W) float32 in [0, 1] to features (N, D), and logits (N, K) if the network gives a
    pair.

    `digest` changes with the weights. `channels` and `size` are those that the network takes; None for any.
    """

    name: str
    network: nn.Module
    digest: str
    channels: int | None = None
    size: int | None = None

    def to(self, device: torch.device | str) -> "Extractor":
        """The same extractor with its network on `device` and in eval mode."""
        self.network.to(device).eval()
        return self

    def __call__(self, images: Tensor) -> Output:
        """Features and logits of a batch. Raises ModelError if the network fails or returns anything else."""
        try:
            with torch.no_grad():
                given: Any = self.network(images)
        except Exception as error:  # whatever modules of the user raise
            raise ModelError(
                f"the extractor {self.name} failed on images of shape {tuple(images.shape)}: "
                f"{one_line(error)}"
            ) from error
        features, logits = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        n = len(images)
        scores = None if logits is None else self._checked("logits", logits, n)
        return Output(self._checked("features", features, n), scores)

    def _checked(self, what: str, found: object, n: int) -> Tensor:
        if (
            not isinstance(found, Tensor)
            or found.dim() != 2
            or len(found) != n
            or not found.is_floating_point()
        ):
            got = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else quote(found)
            raise ModelError(
                f"the extractor {self.name} gave {what} {got} for {n} images; it must return floats "
                f"({n}, D), or a pair of features and logits"
            )
        return found


def content_of(network: nn.Module, source: bytes = b"") -> str:
    """16 hexadecimal digits of a BLAKE2b hash of a network's structure, tensors and code `source`."""
    digest = hashlib.blake2b(repr(network).encode() + source, digest_size=8)
    for name, tensor in sorted(network.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()
