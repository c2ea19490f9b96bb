"""Two classifiers of scikit-learn's digits, trained in seconds: one for features, the other for labels."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from robustsabn.data.public import read_digits
from robustsabn.data.sets import permutation
from robustsabn.errors import WriteError
from robustsabn.files import make_folder, replacing
from robustsabn.metrics.extractor import Extractor, content_of
from robustsabn.paths import cache_folder

__all__ = ["DIGITS", "digits"]

WIDTH = 24
BATCH = 128
EPOCHS = 20
RATE = 2e-3


class Classifier(nn.Module):
    """Digits (N, 1, 8, 8) in [0, 1] to 64 features and 10 logits."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body = body
        self.hidden = nn.Linear(32 * WIDTH, 64)
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = F.relu(self.hidden(self.body(images).flatten(1)))
        return features, self.linear(features)


def _layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU()


def _pooled() -> nn.Sequential:
    w = WIDTH
    return nn.Sequential(*_layer(1, w), *_layer(w, w), nn.MaxPool2d(2), *_layer(w, 2 * w))


def _strided() -> nn.Sequential:
    w = WIDTH
    return nn.Sequential(*_layer(1, w, kernel=5), *_layer(w, 2 * w, stride=2), *_layer(2 * w, 2 * w))


@dataclass(frozen=True)
class Recipe:
    """An architecture and a seed; what makes the two classifiers independent of each other."""

    name: str
    body: Callable[[], nn.Sequential]
    seed: int


DIGITS = {
    "digits": Recipe("digits-cnn-64", _pooled, 0),
    "digits-judge": Recipe("digits-judge-64", _strided, 1),
}


def digits(which: str = "digits") -> Extractor:
    """The classifier "digits" or "digits-judge", trained at the first use and kept in the user's cache
    folder.

    It is trained on the training and validation parts of the digits, for `EPOCHS` epochs of AdamW with small
    rotations, scalings and shifts. Weights differ in their last bits between processors, and so does the
    extractor's digest."""
    recipe = DIGITS[which]
    with _one_thread(), torch.random.fork_rng([]):
        torch.manual_seed(recipe.seed)
        network = Classifier(recipe.body())
        made_by = f"{network} {recipe.seed} {BATCH} {EPOCHS} {RATE} {torch.__version__}"
        key = hashlib.blake2b(made_by.encode(), digest_size=8).hexdigest()
        file = cache_folder() / "metrics" / f"{recipe.name}-{key}.safetensors"
        if not _kept(network, file):
            _train(network, recipe.seed)
            with contextlib.suppress(WriteError):  # then it is trained again next time
                make_folder(file.parent)
                with replacing(file) as aside:
                    save_file(network.state_dict(), aside)
    network.eval().requires_grad_(False)
    return Extractor(recipe.name, network, content_of(network), channels=1, size=8)


def _kept(network: nn.Module, file: Path) -> bool:
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError):  # none, or damaged: it is trained again
        return False
    return True


def _train(network: Classifier, seed: int) -> None:
    parts, _ = read_digits()
    images = torch.cat([parts[part].images for part in ("train", "validation")]).float() / 255
    labels = torch.cat([parts[part].labels for part in ("train", "validation")])
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2 * RATE, steps)
    network.train()
    with torch.enable_grad():
        for epoch in range(EPOCHS):
            order = permutation(len(images), seed * EPOCHS + epoch)
            for batch in torch.split(order[: len(order) // BATCH * BATCH], BATCH):
                _, logits = network(_moved(images[batch]))
                optimizer.zero_grad()
                torch.autograd.backward(F.cross_entropy(logits, labels[batch]))
                optimizer.step()
                schedule.step()


def _moved(images: Tensor) -> Tensor:
    """Each image with its own random rotation, scale, shear and shift (10 degrees, 10 %, a pixel)."""
    turn, across, along, shear, right, down = (2 * torch.rand(6, len(images)) - 1) * torch.tensor(
        [[0.17], [0.1], [0.1], [0.15], [0.25], [0.25]]
    )
    rows = [
        torch.stack([turn.cos() * (1 + across), shear - turn.sin() * (1 + along), right], 1),
        torch.stack([turn.sin() * (1 + across), turn.cos() * (1 + along), down], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread inside the block, so that sums always run in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
