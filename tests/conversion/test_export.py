"""A file that does not compute what it should is never put in place."""

from pathlib import Path

import pytest
import torch
from torch import nn

from robustsabn.conversion.export import export
from robustsabn.errors import ConfigError, ConversionError


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 36, 3)).eval()


def test_a_file_that_differs_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_text("what was here before")
    with pytest.raises(ConversionError, match="differ by"):
        export(net(), path, net(), torch.rand(3, 1, 8, 8))
    assert path.read_text() == "what was here before"
    assert list(tmp_path.iterdir()) == [path]


def test_nan_is_a_difference(tmp_path: Path) -> None:
    broken = net()
    next(broken.parameters()).data.fill_(torch.nan)
    with pytest.raises(ConversionError, match="differ by nan"):
        export(broken, tmp_path / "net.pt2", net(), torch.rand(3, 1, 8, 8))


def test_the_reference_keeps_its_weights_and_fresh_gets_them(tmp_path: Path) -> None:
    model, fresh = net(), net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert export(model, tmp_path / "a.safetensors", model, torch.rand(3, 1, 8, 8), fresh=fresh) == 0
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(fresh.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("name", "said"), [("net.bin", "allowed: safetensors, onnx, pt2"), ("", "give the path of a file")]
)
def test_unusable_targets(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        export(net(), tmp_path / name, net(), torch.rand(3, 1, 8, 8), format=None if name else "pt2")
