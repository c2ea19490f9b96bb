"""A network runs one batch before its run folder is made; a refusal leaves no files."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from robustsabn.errors import DataError, InputError
from robustsabn.trainers import train
from robustsabn.trainers.adversarial.step.first_batch import try_network
from robustsabn.trainers.adversarial.task import AdversarialTraining

NETS = """
import random
import numpy as np
import torch
from torch import nn
from types import SimpleNamespace

class Net(nn.Module):
    def __init__(self, change, classes=3):
        super().__init__()
        self.change, self.calls = change, 0
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
        self.body = nn.Sequential(*layers, nn.Linear(144, classes))

    def forward(self, x):
        return self.change(self.body(x), self)

def plain(num_classes): return Net(lambda z, own: z)
def attribute(num_classes): return Net(lambda z, own: SimpleNamespace(logits=z))
def mapping(num_classes): return Net(lambda z, own: {"logits": z, "features": z})
def single(num_classes): return Net(lambda z, own: (z,))
def aux(num_classes): return Net(lambda z, own: (z, z) if own.training else z)
def boxes(num_classes): return Net(lambda z, own: z if own.training else {"boxes": z})
def two(num_classes): return Net(lambda z, own: z, 2)
def one(num_classes): return Net(lambda z, own: z, 1)
def flat(num_classes): return Net(lambda z, own: z[:, 0], 1)
def softmax(num_classes): return Net(lambda z, own: z.softmax(1))

def noisy(num_classes):
    def change(z, own):
        own.calls += 1
        return z + 0.1 * torch.rand_like(z) + random.random() + np.random.rand() + 0.01 * own.calls
    net = Net(change)
    net.body.insert(3, nn.Dropout(0.3))
    return net

class Inplace(Net):
    def forward(self, x):
        x -= 0.5
        x *= 2
        return super().forward(x)

class Copying(Net):
    def forward(self, x):
        return super().forward((x - 0.5) * 2)

def inplace(num_classes): return Inplace(lambda z, own: z)
def copying(num_classes): return Copying(lambda z, own: z)

def masked(num_classes):
    return Net(lambda z, own: torch.cat([z, torch.full_like(z[:, :1], -torch.inf)], 1))

def lazy(num_classes):
    net = plain(num_classes)
    net.body[4] = nn.LazyLinear(3)
    return net
"""
QUICK = {
    "data": "npz:data.npz",
    "device": "cpu",
    "batch_size": 8,
    "steps": 2,
    "attack": {"eps": 0.05, "steps": 1},
    "validation": {"steps": 1, "gap": False},
    "test": {"steps": 1},
}


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    source = np.random.default_rng(0)
    np.savez("data.npz", images=source.integers(0, 256, (60, 8, 8), np.uint8), labels=np.arange(60) % 3)


def run(net: str, out: str, **more: Any) -> dict[str, Tensor]:
    """The weights that training ends with."""
    random.seed(1)
    np.random.seed(1)
    train({**QUICK, "model": f"nets.py:{net}", "out": out, **more})
    return load_file(f"{out}/checkpoints/last/model.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["paired", "standard", "trades", "gradalign", "free"])
def test_named_logits_train_as_bare_ones(method: str) -> None:
    expected = run("plain", "plain", method=method)
    for net in ("attribute", "mapping", "single"):
        assert same(run(net, net, method=method), expected)


REFUSED = {
    "aux": "a tuple of 2 outputs",
    "boxes": "a dict with the keys boxes",
    "two": "the largest label is 2, but the model has 2 classes",
    "one": "one value per image",
    "flat": "one value per image",
    "lazy": "lazy layers",
}


@pytest.mark.parametrize("net", REFUSED)
def test_what_is_refused_leaves_nothing(net: str) -> None:
    with pytest.raises(InputError, match=REFUSED[net]):
        run(net, "out")
    assert not Path("out").exists()


@pytest.mark.parametrize("method", ["paired", "advprop"])
def test_one_class_is_nothing_to_train_on(method: str) -> None:
    np.savez("data.npz", images=np.zeros((60, 8, 8), np.uint8), labels=np.zeros(60, np.int64))
    with pytest.raises(DataError, match="one class"):
        run("two", "out", method=method)
    assert not Path("out").exists()


def test_probabilities_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    run("softmax", "out", method="standard")
    assert "warning: the outputs lie in [0, 1] and sum to 1" in capsys.readouterr().out


@pytest.mark.parametrize(("net", "method"), [("noisy", "paired"), ("noisy", "free")])
def test_runs_are_bit_equal_with_and_without_being_asked(
    net: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = run(net, "asked", method=method)
    monkeypatch.setattr(AdversarialTraining, "_try", lambda self: [])
    assert same(run(net, "unasked", method=method), asked)


@pytest.mark.parametrize("method", ["paired", "trades", "gradalign"])
def test_a_forward_that_changes_its_input_trains_as_one_that_does_not(method: str) -> None:
    assert same(run("inplace", "inplace", method=method), run("copying", "copying", method=method))


class Auxiliary(NamedTuple):
    logits: Tensor
    aux_logits1: Tensor
    aux_logits2: None


def changed(change: Callable[[Tensor], Any]) -> nn.Module:
    class Changed(nn.Sequential):
        def forward(self, input: Tensor) -> Any:
            return change(nn.Sequential.forward(self, input))  # type: ignore[no-untyped-call]

    return Changed(nn.Flatten(), nn.Linear(16, 3))


X = torch.rand(6, 1, 4, 4)


def test_what_is_left_out_of_training_is_said() -> None:
    (note,) = try_network(changed(lambda z: Auxiliary(z, z, None)), X, 3)
    assert "aux_logits1: only its logits are trained" in note
    (note,) = try_network(changed(lambda z: {"logits": z, "loss": z.sum(), "attentions": None}), X, 3)
    assert "also returns loss" in note
    assert try_network(changed(lambda z: SimpleNamespace(logits=z)), X, 3) == []


def test_a_network_that_fails_is_one_line() -> None:
    class TrainsOnly(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            if not self.training:
                raise NotImplementedError("no inference\nyet")
            return super().forward(input.flatten(1))

    with pytest.raises(
        InputError, match=r"6 images of shape \(1, 4, 4\), .* in eval mode: .*no inference yet"
    ):
        try_network(TrainsOnly(16, 3), X, 3)
    with pytest.raises(InputError, match="in train mode: RuntimeError"):
        try_network(nn.Sequential(nn.Flatten(), nn.Linear(10, 3)), X, 3)


def test_networks_that_cannot_be_copied_are_trained_all_the_same() -> None:
    model: Any = changed(lambda z: z)
    model.lock = threading.Lock()
    assert try_network(model, X, 3) == []


def test_modes_and_generators_stay() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(16).eval(), nn.Linear(16, 3)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    try_network(model, X, 3)
    assert [module.training for module in model.modules()] == modes
    assert same(model.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]  # type: ignore[index]


@pytest.mark.parametrize("method", ["standard", "trades", "paired"])
@pytest.mark.parametrize(
    "soft", [{"label_smoothing": 0.1}, {"augment": {"mix": "cutmix"}}, {"augment": {"mix": "mixup"}}]
)
def test_classes_that_are_ruled_out_have_no_part_in_soft_labels(method: str, soft: dict[str, Any]) -> None:
    config = {**QUICK, "model": "nets.py:masked", "method": {"name": method}, "out": "run"}
    with pytest.raises(InputError, match=r"-inf, but (label_smoothing=0.1|augment.mix=(cutmix|mixup)) gives"):
        train({**config, **soft})
    assert not Path("run").exists()


def test_classes_that_are_ruled_out_are_trained_with_plain_labels() -> None:
    train({**QUICK, "model": "nets.py:masked", "method": {"name": "mart"}, "out": "run"})
    assert all(
        value.isfinite().all() for value in load_file("run/checkpoints/last/model.safetensors").values()
    )
