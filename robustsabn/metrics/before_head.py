"""Any classifier as an extractor: its features are the input of its last linear layer."""

from typing import Any

from torch import Tensor, nn

from robustsabn.errors import ModelError

__all__ = ["BeforeHead"]


class BeforeHead(nn.Module):
    """Images to the input (N, D) of the last linear layer of `classifier`, and to its logits (N, K).

    Raises ModelError where it has no linear layer.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        layers = [module for module in classifier.modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise ModelError(
                f"{type(classifier).__name__} has no linear layer; return a network that gives features, or "
                "features and logits"
            )
        self.classifier = classifier
        self._seen: list[Tensor] = []
        layers[-1].register_forward_pre_hook(self._see)

    def _see(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._seen[:] = [inputs[0]]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.classifier(images)
        return self._seen.pop().flatten(1), logits
