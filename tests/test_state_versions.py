"""Modules that read the version of their state: it stays with the tensors in every file that is written."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from robustsabn.cli import main
from robustsabn.errors import CheckpointError, ModelError
from robustsabn.models import load_weights, resolve
from robustsabn.state_versions import load_state, read_state, version_notes
from robustsabn.trainers import evaluate_run, load_run_model, train
from robustsabn.trainers.checkpoints.files import Checkpoint, read, write

NET = """
from torch import nn

class Scaled(nn.Linear):
    _version = 2
    doubled = False

    def _load_from_state_dict(self, state, prefix, local, *rest):
        if local.get("version") not in (1, 2):
            raise ValueError(f"version {local.get('version')} is none of 1 and 2")
        self.doubled = local["version"] == 1  # weights of version 1 were half as large
        super()._load_from_state_dict(state, prefix, local, *rest)

    def forward(self, x):
        return super().forward(x) * (2 if self.doubled else 1)

def make(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), Scaled(16, num_classes)
    )
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    return resolve("net.py:make", num_classes=2, in_channels=1)


def version(state: Any, place: str = "4") -> int | None:
    known: dict[str, dict[str, int]] = getattr(state, "_metadata", {})
    return known.get(place, {}).get("version")


def test_a_run_is_resumed_evaluated_and_exported(net: nn.Module) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    np.savez("mine.npz", images=pixels, labels=np.arange(40) % 2)
    config: dict[str, Any] = {"model": "net.py:make", "data": "npz:mine.npz", "device": "cpu"}
    config |= {"batch_size": 8, "schedule": "constant", "test": {"steps": 1}, "validation": {"steps": 1}}
    config |= {"attack": {"eps": 0.1, "steps": 1}}
    train({**config, "out": "whole", "steps": 6})
    train({**config, "out": "cut", "steps": 4})
    train({**config, "out": "cut", "steps": 6}, resume=True)
    ends = [read(Path(name, "checkpoints"), "last").tensors for name in ("cut", "whole")]
    torch.testing.assert_close(*ends, rtol=0, atol=0)
    assert evaluate_run("cut", attack="pgd-1", device="cpu").routes == ("clean", "adv")
    assert version(load_run_model("cut").state_dict()) == 2
    assert main(["export", "cut", "--route", "adv", "--out", "plain.safetensors"]) == 0
    again = resolve("net.py:make", num_classes=2, in_channels=1, weights="plain.safetensors")
    x = torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        assert not torch.equal(again(x), net(x))
    with safe_open("plain.safetensors", "pt") as file:
        assert "state_dict_versions" in file.metadata()


def test_a_checkpoint_keeps_an_older_version_as_it_is(net: nn.Module, tmp_path: Path) -> None:
    state = net.state_dict()
    state._metadata["4"]["version"] = 1  # type: ignore[attr-defined]
    write(tmp_path / "c", Checkpoint({"model": state, "optimizer": {"a": torch.zeros(2)}}, {}), ("best",))
    found = read(tmp_path / "c").tensors
    assert version(found["model"]) == 1
    assert not hasattr(found["optimizer"], "_metadata")
    load_state(net, found["model"])
    assert net[4].doubled  # type: ignore[index]


def test_files_without_versions_are_taken_as_of_today(net: nn.Module) -> None:
    save_file(net.state_dict(), "plain.safetensors")
    torch.save(dict(net.state_dict()), "plain.pt")
    for name in ("plain.safetensors", "plain.pt"):
        fresh = resolve("net.py:make", num_classes=2, in_channels=1, weights=name)
        assert torch.equal(fresh.get_parameter("4.weight"), net.get_parameter("4.weight"))
        assert not fresh[4].doubled  # type: ignore[index]


@pytest.mark.parametrize("wrapper", [nn.DataParallel, lambda net: nn.Sequential(OrderedDict(model=net))])
def test_versions_follow_the_keys_of_a_wrapped_network(net: nn.Module, wrapper: Any) -> None:
    state = wrapper(net).state_dict()
    place = next(name for name in state._metadata if name.endswith(".4"))
    state._metadata[place]["version"] = 1
    torch.save({"state_dict": state}, "wrapped.pt")
    fresh = load_weights(resolve("net.py:make", num_classes=2, in_channels=1), "wrapped.pt")
    assert fresh[4].doubled  # type: ignore[index]


def test_a_version_that_the_network_does_not_know_is_one_line(net: nn.Module) -> None:
    state = net.state_dict()
    state._metadata["4"]["version"] = 7  # type: ignore[attr-defined]
    torch.save(state, "new.pt")
    with pytest.raises(ModelError, match=r"new.pt does not fit the network: version 7 is none of 1 and 2"):
        load_weights(net, "new.pt")


@pytest.mark.parametrize("text", ["{", "[1]", '{"4": "two"}', "[" * 10000, '{"4": null}'])
def test_versions_that_were_tampered_with(net: nn.Module, tmp_path: Path, text: str) -> None:
    save_file(net.state_dict(), "w.safetensors", {"state_dict_versions": text})
    with pytest.raises(ModelError, match=r"w.safetensors is not a readable safetensors file") as caught:
        load_weights(net, "w.safetensors")
    assert "\n" not in str(caught.value)


def test_plain_tensors_have_no_notes(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", version_notes({"a": torch.ones(2)}))
    assert read_state(tmp_path / "a.safetensors").keys() == load_file(tmp_path / "a.safetensors").keys()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read(tmp_path)


def test_mnasnet_of_torchvision(tmp_path: Path) -> None:
    net = resolve("torchvision:mnasnet0_5", num_classes=3)
    inner = net.get_submodule("model")
    save_file(inner.state_dict(), tmp_path / "w.safetensors", version_notes(inner.state_dict()))
    save_file(inner.state_dict(), tmp_path / "old.safetensors")
    x = torch.rand(1, 3, 32, 32)
    for name in ("w.safetensors", "old.safetensors"):
        again = resolve("torchvision:mnasnet0_5", num_classes=3, weights=tmp_path / name)
        assert torch.equal(again(x), net(x))
