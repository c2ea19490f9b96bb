"""The Inception network of published FID, from the weights that torch-fidelity converted."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from robustsabn import _torchvision
from robustsabn.errors import ModelError
from robustsabn.metrics.extractor import Extractor, content_of
from robustsabn.models.weights import read_weights
from robustsabn.paths import given_path
from robustsabn.text import one_line

__all__ = ["WEIGHTS", "inception"]

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
"""How torch-fidelity calls them, in its release v0.2.0 on GitHub and in torch's cache."""


class _Inception(nn.Module):
    """Images (N, 3, H, W) in [0, 1], resized as in TensorFlow 1, to 2048 features and 1008 logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.network(images.mul(255).round().byte())
        return features, logits


def inception(path: str | Path | None = None) -> Extractor:
    """Inception v3 of 2015-12-05 with the weights at `path`; by default those of torch-fidelity and
    torchmetrics.

    Nothing is downloaded. Raises ModelError if the weights are missing or are other ones, and
    MissingExtraError without torch-fidelity."""
    usual = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    file = usual if path is None else given_path(path, "the Inception weights", ModelError)
    if not file.is_file():
        raise ModelError(
            f"there are no Inception weights at {file}; put {WEIGHTS} of torch-fidelity's release v0.2.0 "
            "there, or write inception:FILE"
        )
    package = _torchvision.load_optional(
        "torch_fidelity.feature_extractor_inceptionv3",
        "Inception features need torch-fidelity; pip install 'robustsabn[fidelity]'",
    )
    state = read_weights(file)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng([]):
        checked = Path(folder) / WEIGHTS  # torch-fidelity would run code that the file might hold
        torch.save(dict(state), checked)
        try:
            network = package.FeatureExtractorInceptionV3(
                "inception-v3-compat",
                ["2048", "logits_unbiased"],
                feature_extractor_weights_path=str(checked),
            )
        except RuntimeError as error:
            raise ModelError(f"{file} does not hold the Inception of FID: {one_line(error)}") from error
    return Extractor("inception-2048", _Inception(network).eval(), content_of(network), channels=3)
