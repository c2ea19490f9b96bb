"""One route of a converted torchvision or timm network as ONNX, torch.export and safetensors files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robustsabn import bake, convert, route
from robustsabn.conversion.export import export
from tests.helpers.conversion.zoo import ZOO, build, wake
from tests.helpers.randomise import randomise, through

NETWORKS = (
    "torchvision:resnet18",
    "torchvision:mobilenet_v3_small",
    "torchvision:efficientnet_b0",
    "torchvision:convnext_tiny",
    "torchvision:densenet121",
    "timm:vit_tiny_patch16_224",
)
QUICK = {("torchvision:resnet18", "onnx"), ("timm:vit_tiny_patch16_224", "pt2")}
CASES = [
    pytest.param(name, form, marks=() if (name, form) in QUICK else pytest.mark.slow, id=f"{name}-{form}")
    for name in NETWORKS
    for form in ("onnx", "pt2")
]


def read_onnx(file: Path) -> Callable[[Tensor], Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def read_pt2(file: Path) -> Callable[[Tensor], Tensor]:
    net: Callable[[Tensor], Tensor] = torch.export.load(str(file)).module()
    return net


READERS = {"onnx": read_onnx, "pt2": read_pt2}


@pytest.mark.parametrize(("name", "form"), CASES)
@torch.no_grad()
def test_the_file_computes_the_route_for_any_batch_size(tmp_path: Path, name: str, form: str) -> None:
    model = randomise(build(name), 0.1)
    wake(model)
    randomise(convert(model, "saauxbn"), 0.1)
    size = ZOO[name][0]
    with route(model, "adv"):
        export(bake(model, "adv"), tmp_path / f"net.{form}", model, torch.rand(5, 3, size, size))
    net = READERS[form](tmp_path / f"net.{form}")
    for n in (1, 2, 7):
        x = torch.rand(n, 3, size, size)
        clean, adv = through(model, "clean", x), through(model, "adv", x)
        torch.testing.assert_close(net(x), adv, rtol=1e-4, atol=1e-4 * float(adv.abs().max()))
        assert float((clean - adv).abs().max()) > 0.01 * float(adv.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_safetensors_fit_the_plain_network(tmp_path: Path, name: str) -> None:
    model = randomise(convert(randomise(build(name), 0.1), "saauxbn"), 0.1)
    size, fresh = ZOO[name][0], build(name)
    images = torch.rand(3, 3, size, size)
    with route(model, "adv"):
        export(bake(model, "adv"), tmp_path / "net.safetensors", model, images, fresh=fresh)
        torch.testing.assert_close(fresh(images), model(images), rtol=0, atol=1e-5)
