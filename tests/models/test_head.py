"""Weights of another number of classes: refused with the way out, or all but the last layer of them taken."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robustsabn.errors import ConfigError, ModelError
from robustsabn.models import build, load_weights, resolve
from robustsabn.trainers import load_run_model, train

CONFIG: dict[str, Any] = {
    "data": "npz:mine.npz",
    "device": "cpu",
    "norm": "none",
    "method": "standard",
    "steps": 1,
    "batch_size": 8,
    "optim": {"lr": 1e-9},
    "test": {"steps": 1},
    "validation": {"steps": 1},
}


class Ends(nn.Module):
    """Two classifiers, as GoogLeNet has, on one body."""

    def __init__(self, classes: int, width: int = 6) -> None:
        super().__init__()
        self.aux = nn.Conv2d(width, classes, 1)
        self.body = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width))
        self.last = nn.Linear(width, classes, bias=False)


def saved(model: nn.Module, path: Path) -> Path:
    torch.save(model.state_dict(), path)
    return path


def test_both_heads_are_named_and_left_fresh(tmp_path: Path) -> None:
    source, model = Ends(10), Ends(3)
    path = saved(source, tmp_path / "ten.pt")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(
        ModelError,
        match=r"ten.pt does not fit the network: it has 10 classes, the network 3; .*fresh_head=true",
    ) as e:
        load_weights(model, path)
    assert "(aux.weight, aux.bias, last.weight)" in str(e.value)
    assert "\n" not in str(e.value)
    load_weights(model, path, fresh_head=3)
    for key, value in model.state_dict().items():
        expected = before if key.startswith(("aux", "last")) else source.state_dict()
        assert torch.equal(value, expected[key]), key


def test_a_fresh_head_of_as_many_classes_is_the_last_layer(tmp_path: Path) -> None:
    source, model = build("resnet-digits", 10, 1), build("resnet-digits", 10, 1)
    head = model.get_parameter("linear.weight").clone()
    load_weights(model, saved(source, tmp_path / "w.pt"), fresh_head=10)
    assert torch.equal(model.get_parameter("linear.weight"), head)
    assert torch.equal(model.get_parameter("conv1.weight"), source.get_parameter("conv1.weight"))
    with pytest.raises(ModelError, match="no layer of the network has 7 rows"):
        load_weights(model, tmp_path / "w.pt", fresh_head=7)


def test_weights_without_a_head_will_do(tmp_path: Path) -> None:
    state = {k: v for k, v in build("resnet-digits", 10, 1).state_dict().items() if "linear" not in k}
    torch.save(state, tmp_path / "body.pt")
    with pytest.raises(ModelError, match="2 missing, the first is linear"):
        load_weights(build("resnet-digits", 3, 1), tmp_path / "body.pt")
    load_weights(build("resnet-digits", 3, 1), tmp_path / "body.pt", fresh_head=3)


def test_another_width_is_no_other_number_of_classes(tmp_path: Path) -> None:
    path = saved(Ends(3, width=8), tmp_path / "wide.pt")
    for head in (None, 3):
        with pytest.raises(
            ModelError, match=r"wide.pt does not fit the network: size mismatch for aux.weight"
        ):
            load_weights(Ends(3), path, fresh_head=head)
    other = saved(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)), tmp_path / "norm.pt")
    with pytest.raises(ModelError, match=r"size mismatch for 0.weight"):
        load_weights(nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)), other)


@pytest.mark.parametrize("model", ["resnet-digits", "net.py:make"])
def test_a_run_starts_from_the_body_of_other_weights(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from robustsabn.models import build\n"
        "def make(num_classes, in_channels):\n    return build('resnet-digits', num_classes, in_channels)\n"
    )
    rng = np.random.default_rng(0)
    np.savez("mine.npz", images=rng.integers(0, 256, (40, 8, 8), dtype=np.uint8), labels=np.arange(40) % 3)
    source = resolve("resnet-digits", num_classes=10, in_channels=1)
    saved(source, Path("ten.pt"))
    config = {**CONFIG, "model": model, "weights": "ten.pt"}
    with pytest.raises(
        ModelError, match=r"ten.pt does not fit the network: it has 10 classes, the network 3"
    ):
        train({**config, "out": "refused"})
    train({**config, "fresh_head": True, "out": "run"})
    trained = load_run_model("run", "last")
    kernel, rows = trained.get_parameter("conv1.weight"), trained.get_parameter("linear.weight")
    assert torch.allclose(kernel, source.get_parameter("conv1.weight"), atol=1e-6)
    assert len(rows) == 3


def test_a_fresh_head_needs_weights() -> None:
    with pytest.raises(ConfigError, match=r"fresh_head .*give weights=FILE"):
        train({"fresh_head": True})
