"""Weights from files, and how each of the ways to get that wrong is told."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robustsabn.errors import ModelError
from robustsabn.models import Normalize, load_weights, read_weights


def state() -> dict[str, Tensor]:
    return nn.Linear(3, 2).state_dict()


def prefixed(*prefixes: str) -> dict[str, Tensor]:
    return {"".join(prefixes) + key: value for key, value in state().items()}


def filled(path: Path) -> bool:
    return all(torch.isfinite(p).all() for p in load_weights(nn.Linear(3, 2), path).parameters())


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th"])
@pytest.mark.parametrize(
    "content",
    [
        state(),
        OrderedDict(state()),
        {"state_dict": state(), "epoch": 3},
        {"model": state(), "optimizer": {"lr": 0.1}},
        {"model": {"state_dict": state()}},
        {"state_dict": prefixed("module.")},
        prefixed("model."),
        prefixed("module.", "_orig_mod."),
    ],
)
def test_wrapped_state_dicts_fit(tmp_path: Path, content: Any, suffix: str) -> None:
    torch.save(content, tmp_path / f"w{suffix}")
    assert filled(tmp_path / f"w{suffix}")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_fit_inside_a_wrapper_that_normalises(tmp_path: Path, prefix: str) -> None:
    source = state()
    torch.save({"net": {prefix + key: value for key, value in source.items()}}, tmp_path / "w.pt")
    wrapped = nn.Sequential(Normalize([0.5] * 3, [0.25] * 3), nn.Linear(3, 2))
    assert load_weights(wrapped, tmp_path / "w.pt") is wrapped
    assert torch.equal(wrapped.get_parameter("1.weight"), source["weight"])
    assert torch.equal(wrapped.get_buffer("0.mean"), torch.full((3,), 0.5))


def test_a_wrapper_with_parameters_of_its_own_needs_them(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pt")
    two_layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with pytest.raises(ModelError, match=r"4 missing, the first is 0\.weight"):
        load_weights(two_layers, tmp_path / "w.pt")


def test_safetensors_and_half_precision_fit(tmp_path: Path) -> None:
    source = {key: value.half() for key, value in state().items()}
    save_file(source, tmp_path / "w.safetensors")
    model = load_weights(nn.Linear(3, 2), tmp_path / "w.safetensors")
    assert torch.equal(model.get_parameter("weight"), source["weight"].float())


def test_a_prefix_that_belongs_to_the_network_stays(tmp_path: Path) -> None:
    model = nn.Sequential(OrderedDict(model=nn.Linear(3, 2)))
    torch.save(model.state_dict(), tmp_path / "w.pt")
    copy = load_weights(nn.Sequential(OrderedDict(model=nn.Linear(3, 2))), tmp_path / "w.pt")
    assert torch.equal(copy.get_parameter("model.weight"), model.get_parameter("model.weight"))


class Malicious:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("harm",)


def test_pickled_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Malicious()}, tmp_path / "w.pt")
    torch.save(nn.Linear(3, 2), tmp_path / "whole.pt")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious()))
    for name in ("w.pt", "whole.pt", "plain.pth"):
        with pytest.raises(
            ModelError, match="holds pickled code, which is not run; save only the weights"
        ) as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", b"", "not a torch file, or is damaged"),
        ("w.pt", b"hello, this is text", "not a torch file, or is damaged|holds pickled code"),
        ("w.pt", b"PK\x03\x04 cut short", "not a torch file, or is damaged"),
        ("w.safetensors", b"", "not a readable safetensors file"),
        ("w.safetensors", b"hello, this is text", "not a readable safetensors file"),
        ("w.npz", b"", "must end in .safetensors, .pt"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds list, not a state dict"),
        ({}, "not a state dict"),
        ({"epoch": 3, "weights": state()}, "'epoch' is not a tensor"),
        ({"weight": torch.zeros(2, 3)}, "1 missing, the first is bias"),
        (
            {"fc.weight": torch.zeros(2, 3)},
            "2 missing, the first is weight; 1 unexpected, the first is fc.weight",
        ),
        (state() | {"more": torch.zeros(1)}, "1 unexpected, the first is more"),
        (state() | {"bias": torch.zeros(3)}, r"size mismatch for bias.*\[3\].*\[2\]"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(nn.Linear(3, 2), tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert "w.pt" in str(caught.value)


class Residual(nn.Module):
    """Block of the CIFAR ResNet of He et al.: the shortcut subsamples pixels and pads channels with zeros."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if h.shape != x.shape:
            pad = (h.shape[1] - x.shape[1]) // 2
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad, pad))
        out: Tensor = (h + x).relu()
        return out


@pytest.mark.skipif("ROBUSTSABN_TEST_DATA" not in os.environ, reason="needs the real weights")
def test_published_weights() -> None:
    folder = Path(os.environ["ROBUSTSABN_TEST_DATA"]) / "weights"
    model = nn.Sequential(
        OrderedDict(conv1=nn.Conv2d(3, 16, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(16))
    )
    for k, (i, o) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
        blocks = (Residual(i if j == 0 else o, o, 2 if i != o and j == 0 else 1) for j in range(3))
        model.add_module(f"layer{k}", nn.Sequential(*blocks))
    model.add_module("linear", nn.Linear(64, 10))
    load_weights(model, folder / "cifar10_resnet20-12fca82f.th")
    assert model.get_parameter("linear.weight").abs().sum() > 10
    for name in (
        "cifar10_abcrown_resnet2b_adv.pth",
        "mnist_lenet5_advtrained.pt",
        "vgg16_hed_relu4_1_fp16.pth",
    ):
        assert all(isinstance(value, Tensor) for value in read_weights(folder / name).values())


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(ModelError, match="holds no tensors"):
        load_weights(nn.Linear(2, 2), tmp_path / "empty.safetensors")
