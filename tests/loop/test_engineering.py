"""What a run may be asked for around its method: clipping, decay, and how resuming treats them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from robustsabn.config import load
from robustsabn.data import load as load_data
from robustsabn.errors import ConfigError, TrainingError
from robustsabn.trainers import TrainConfig, evaluate_run, load_run_model, train
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.checkpoints.files import read, write
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.loop.precision import tensor_float32

TINY: dict[str, Any] = {
    "images": 32,
    "batch_size": 32,
    "steps": 1,
    "method": "standard",
    "schedule": "constant",
    "optim": {"lr": 0.5, "momentum": 0, "weight_decay": 0},
    "validation": {"images": 10, "steps": 1},
    "test": {"images": 10, "steps": 1},
    "log_every": 1,
    "device": "cpu",
}


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def moved(place: Path, **optim: Any) -> dict[str, torch.Tensor]:
    """How far one step of SGD moves every parameter."""
    optim = {**TINY["optim"], **optim}
    train({**TINY, "optim": {**optim, "lr": 1e-30}, "out": str(place / "before")})
    train({**TINY, "optim": optim, "out": str(place / "after")})
    before, after = (
        dict(load_run_model(place / name, "last").named_parameters()) for name in ("before", "after")
    )
    return {name: (after[name] - before[name]).detach() for name in before}


def length(tensors: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([t.flatten() for t in tensors.values()]).double().norm())


def test_clipping_shortens_the_gradient_and_keeps_its_direction(tmp_path: Path) -> None:
    free = moved(tmp_path / "free")
    norm = length(free) / 0.5
    clipped = moved(tmp_path / "clipped", clip=norm / 4)
    assert length(clipped) == pytest.approx(length(free) / 4, rel=1e-3)
    for name, step in clipped.items():
        torch.testing.assert_close(4 * step, free[name], rtol=1e-2, atol=1e-6)
    (line,) = records(tmp_path / "clipped" / "after", "train")
    assert line["gradient_norm"] == pytest.approx(norm, rel=1e-3)
    wide = moved(tmp_path / "wide", clip=norm * 4)
    torch.testing.assert_close(wide, free, rtol=0, atol=0)


def test_a_run_that_is_older_than_a_key_resumes_with_its_default(tmp_path: Path) -> None:
    config = {**TINY, "out": str(tmp_path / "run")}
    train(config)
    stored = read(tmp_path / "run" / "checkpoints", "last")
    del stored.state["config"]["optim"]["decay"]
    write(tmp_path / "run" / "checkpoints", stored)
    train({**config, "steps": 2}, resume=True)
    with pytest.raises(ConfigError, match=r"optim.decay is 'weights', the run in .* has 'all'"):
        train(config, ["steps=3", "optim.decay=weights"], resume=True)


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
        **TINY,
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
    images = load_data("digits", n=40).train
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
    config = {**TINY, "model": f"{tmp_path}/net.py:make", "norm": "none", "out": str(tmp_path / "run")}
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
    config = {**TINY, "model": f"{tmp_path}/net.py:make", "norm": "none", "log_every": log_every, "steps": 12}
    config["checkpoint_every"] = log_every
    config = {**config, "images": 320, "out": str(tmp_path / "run")}
    with pytest.raises(TrainingError) as caught:
        train(config)
    assert str(caught.value).startswith(said)
    assert [file.name for file in (tmp_path / "run").glob("batch-*")] == ["batch-of-step-6.safetensors"]


def test_a_constant_that_is_infinite_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(GRADIENT_NAN_AT.format(step=-1))
    train({**TINY, "model": f"{tmp_path}/net.py:make", "norm": "none", "out": str(tmp_path / "run")})


def switches() -> tuple[object, object]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_chosen_for_training_off_for_tests_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    before, seen = switches(), list[tuple[object, object]]()

    class Watched(AdversarialTraining):
        def step(self, step: int) -> dict[str, torch.Tensor]:
            seen.append(switches())
            return super().step(step)

    real = torch.nn.Linear.forward

    def forward(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        seen.append(switches())
        return real(self, x)

    result = run(load(TrainConfig, {**TINY, "tf32": tf32, "out": str(tmp_path / "run")}), Watched)
    assert seen == [(tf32, tf32)]
    assert switches() == before
    monkeypatch.setattr(torch.nn.Linear, "forward", forward)
    seen.clear()
    evaluate_run(result.folder, n=5, attack="pgd-1")
    assert set(seen) == {(False, False)}
    assert switches() == before


def test_precisions_set_through_newer_switches_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mixed:
        @property
        def allow_tf32(self) -> bool:
            raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch.backends.cuda, "matmul", Mixed())
    before = torch.backends.cudnn.allow_tf32
    with tensor_float32(not before):
        assert torch.backends.cudnn.allow_tf32 == before


def test_a_run_smooths_its_labels(tmp_path: Path) -> None:
    losses = []
    for share in (0.0, 0.5):
        train({**TINY, "label_smoothing": share, "out": str(tmp_path / str(share))})
        losses.append(records(tmp_path / str(share), "train")[0]["clean_loss"])
    assert losses[0] != losses[1]
