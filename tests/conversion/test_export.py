"""A file that does not compute what it should is never put in place."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from robustsabn.conversion.export import export
from robustsabn.errors import ConfigError, ConversionError


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 36, 3)).eval()


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_files_describe_themselves(tmp_path: Path, format: str) -> None:
    path, images = tmp_path / f"net.{format}", torch.rand(4, 3)
    if format == "onnx":
        pytest.importorskip("onnxscript")
    notes = {"route": "adv", "classes": ["cat", "dog"], "weights_sha256": "12ab"}
    net = nn.Linear(3, 2).eval()
    export(net, path, net, images, notes=notes)
    if format == "onnx":
        runtime = pytest.importorskip("onnxruntime")
        about = runtime.InferenceSession(str(path)).get_modelmeta()
        assert about.producer_name == "robustsabn"
        known = {**about.custom_metadata_map, "classes": json.loads(about.custom_metadata_map["classes"])}
    else:
        extra = {"metadata.json": ""}
        torch.export.load(str(path), extra_files=extra)
        known = json.loads(extra["metadata.json"])
    assert {name: known[name] for name in notes} == notes


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
