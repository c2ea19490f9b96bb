"""Losses, gradients and weights that are NaN or infinite: the run stops, and its batch is kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from robustsabn.data import load
from robustsabn.errors import TrainingError
from robustsabn.trainers import train
from robustsabn.trainers.checkpoints.files import read
from tests.helpers.runs import TINY

ONE_STEP: dict[str, Any] = {
    **TINY,
    "batch_size": 32,
    "steps": 1,
    "method": "standard",
    "schedule": "constant",
    "optim": {"lr": 0.5, "momentum": 0, "weight_decay": 0},
    "log_every": 1,
}
NAN_AFTER = """
import torch
from torch import nn

class Net(nn.Sequential):
    calls = 0

    def forward(self, x):
        z = super().forward(x)
        if self.training:
            self.calls += 1
            if self.calls == {step}:
                z = z * {factor}
        return z

def make(num_classes):
    return Net(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.mark.parametrize(("factor", "said"), [("float('nan')", "the loss is nan"), ("1e39", "the loss is")])
def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_batch(
    tmp_path: Path, factor: str, said: str
) -> None:
    (tmp_path / "net.py").write_text(NAN_AFTER.format(step=6, factor=factor))
    out = tmp_path / "run"
    config = {
        **ONE_STEP,
        "images": 40,
        "batch_size": 10,
        "steps": 12,
        "model": f"{tmp_path}/net.py:make",
        "norm": "none",
        "augment": {"crop": 1},
        "log_every": 8,
        "out": str(out),
    }
    with pytest.raises(TrainingError) as caught:
        train(config)
    file = out / "batch-of-step-6.safetensors"
    assert str(caught.value).startswith(said)
    assert (
        f"at step 6, whose images, labels and their places in the training set are in {file}; lower"
        in str(caught.value)
    )
    assert "\n" not in str(caught.value)
    batch = load_file(file)
    images = load("digits", n=40).train
    x, y = images.batch(batch["places"])
    assert torch.equal(batch["labels"], y)
    assert batch["images"].shape == x.shape
    assert not torch.equal(batch["images"], x)  # cropped
    assert read(out / "checkpoints", "last").state["step"] == 4
    (tmp_path / "net.py").write_text(NAN_AFTER.format(step=-1, factor="1"))
    train(config, resume=True)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x.flatten(1)) + (self.bias - self.bias.detach()).square().sqrt()\n"
        "def make(num_classes):\n    return Net(64, num_classes)\n"
    )
    config = {**ONE_STEP, "model": f"{tmp_path}/net.py:make", "norm": "none", "out": str(tmp_path / "run")}
    with pytest.raises(
        TrainingError, match="the update gives weights that are NaN or infinite at step 1, whose"
    ):
        train(config)
    assert (tmp_path / "run" / "batch-of-step-1.safetensors").is_file()
    assert not (tmp_path / "run" / "checkpoints").exists()


GRADIENT_NAN_AT = """
import torch
from torch import nn

class Net(nn.Linear):
    calls = 0

    def __init__(self, num_classes):
        super().__init__(64, num_classes)
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))

    def forward(self, x):
        z = super().forward(x.flatten(1))
        if self.training:
            self.calls += 1
            if self.calls == {step}:
                z.register_hook(lambda gradient: gradient * torch.nan)
        return z

def make(num_classes):
    return Net(num_classes)
"""


@pytest.mark.parametrize(
    ("log_every", "said"),
    [(8, "the loss is nan, after an update that gave weights that are"), (6, "the update gives weights")],
)
def test_a_gradient_that_is_no_number_is_traced_to_its_batch(
    tmp_path: Path, log_every: int, said: str
) -> None:
    (tmp_path / "net.py").write_text(GRADIENT_NAN_AT.format(step=6))
    config = {
        **ONE_STEP,
        "model": f"{tmp_path}/net.py:make",
        "norm": "none",
        "log_every": log_every,
        "steps": 12,
    }
    config["checkpoint_every"] = log_every
    config = {**config, "images": 320, "out": str(tmp_path / "run")}
    with pytest.raises(TrainingError) as caught:
        train(config)
    assert str(caught.value).startswith(said)
    assert [file.name for file in (tmp_path / "run").glob("batch-*")] == ["batch-of-step-6.safetensors"]


def test_a_constant_that_is_infinite_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(GRADIENT_NAN_AT.format(step=-1))
    train({**ONE_STEP, "model": f"{tmp_path}/net.py:make", "norm": "none", "out": str(tmp_path / "run")})
