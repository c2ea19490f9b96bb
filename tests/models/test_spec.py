"""Networks from specs, and how each of the ways to get that wrong is told."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from robustsabn.errors import MissingExtraError, ModelError
from robustsabn.models import Normalize, build, resolve
from robustsabn.models.normalize import IMAGENET_MEAN

NETS = """
import torch
from torch import nn
import beside

class Net(nn.Sequential):
    def __init__(self, num_classes=2):
        super().__init__(nn.Flatten(), nn.Linear(12, num_classes))

def make():
    import later
    return Net(later.CLASSES)

def flexible(num_classes, in_channels=9, width=beside.WIDTH):
    net = Net(num_classes)
    net.seen = (num_classes, in_channels, width)
    return net

def needs(argument):
    return Net()

def broken():
    raise KeyError("no\\nsuch layer")

def text():
    return "a network"

READY = Net(4)
SIZE = 3
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("WIDTH = 5\n")
    (tmp_path / "later.py").write_text("CLASSES = 6\n")
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path / "nets.py"


def fails(spec: str | Path, message: str, error: type[Exception] = ModelError, **options: Any) -> None:
    with pytest.raises(error, match=message) as caught:
        resolve(str(spec), **options)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ own code


def test_a_function_in_a_file(nets: Path) -> None:
    path = list(sys.path)
    model = resolve(f"{nets}:make", num_classes=3)
    assert model(torch.rand(2, 3, 2, 2)).shape == (2, 6)
    assert not model.training
    assert sys.path == path


def test_a_function_gets_the_options_it_has_parameters_for(nets: Path) -> None:
    seen: Any = resolve(f"{nets}:flexible", num_classes=8, in_channels=1)
    assert seen.seen == (8, 1, 5)
    seen = resolve(f"{nets}:flexible", num_classes=8)
    assert seen.seen == (8, 9, 5)
    assert resolve(f"{nets}:Net", num_classes=7)(torch.rand(1, 12)).shape == (1, 7)
    assert resolve(f"{nets}:READY", num_classes=7)(torch.rand(1, 12)).shape == (1, 4)


def test_a_function_in_a_package(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = nets.parent / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "zoo.py").write_text(
        "from torch import nn\ndef make(num_classes): return nn.Linear(4, num_classes)\n"
    )
    monkeypatch.chdir(nets.parent)
    try:
        assert resolve("my_package.zoo:make", num_classes=3)(torch.rand(1, 4)).shape == (1, 3)
        fails("my_package.zoo:mak", "did you mean make")
    finally:
        for name in ("my_package", "my_package.zoo"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mak", "has no 'mak' \\(did you mean make"),
        ("zzz", "has no 'zzz'; it defines Net, make, flexible"),
        ("needs", r"nets\.py:needs failed: TypeError: .*argument"),
        ("broken", r"nets\.py:broken failed: KeyError: 'no\\nsuch layer' \(nets\.py, line 23\)"),
        ("text", "returned str, not a torch.nn.Module"),
        ("SIZE", "SIZE in .* is int, not a function"),
    ],
)
def test_functions_that_give_no_network(nets: Path, name: str, message: str) -> None:
    fails(f"{nets}:{name}", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "import a_package_that_is_absent",
            "ModuleNotFoundError: No module named 'a_package_that_is_absent'",
        ),
        ("x = (", "SyntaxError"),
        ("x = 1\nraise SystemExit(3)", r"SystemExit: 3 \(nets\.py, line 2\)"),
    ],
)
def test_files_that_do_not_run(nets: Path, content: str, message: str) -> None:
    nets.write_text(content)
    fails(f"{nets}:make", message)
    assert "_user_nets" not in sys.modules


def test_a_file_may_import_a_mismatched_torchvision(nets: Path) -> None:
    flag = nets.parent / "flag"
    nets.write_text(
        "from pathlib import Path\nfrom torch import nn\n"
        f"flag = Path({str(flag)!r})\n"
        "if not flag.exists():\n"
        "    flag.touch()\n"
        "    raise RuntimeError('operator torchvision::nms does not exist')\n"
        "def make(): return nn.Identity()\n"
    )
    assert isinstance(resolve(f"{nets}:make"), nn.Identity)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere/nets.py:make", "no such file: nowhere/nets.py"),
        ("nets.py", "name its function: nets.py:FUNCTION"),
        ("a_package_that_is_absent:make", "a_package_that_is_absent failed: ModuleNotFoundError"),
        ("runs/nothing", "unknown model 'runs/nothing'; there is no such folder; allowed: a run folder"),
        ("wrn-28", "did you mean wrn-28-10"),
        ("", "unknown model ''"),
        (":make", "unknown model"),
        ("torchvision:resnet1", "torchvision has no classifier 'resnet1' \\(did you mean resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no classifier"),
        ("torchvision:", "no classifier ''"),
    ],
)
def test_unknown_specs(spec: str, message: str) -> None:
    fails(spec, message)


# ------------------------------------------------------------------ registry, libraries, runs


def test_registered_names_take_their_sizes_from_arguments_or_weights(tmp_path: Path) -> None:
    assert resolve("resnet-digits", num_classes=4, in_channels=1)(torch.rand(1, 1, 8, 8)).shape == (1, 4)
    assert resolve("resnet-small")(torch.rand(1, 3, 8, 8)).shape == (1, 10)
    source = build("resnet-digits", 7, 2)
    torch.save(nn.DataParallel(source).state_dict(), tmp_path / "w.pt")
    model = resolve("resnet-digits", weights=tmp_path / "w.pt")
    x = torch.rand(2, 2, 8, 8)
    assert torch.equal(model(x), source.eval()(x))
    fails(
        "resnet-digits",
        r"w\.pt does not fit the network: it has 7 classes, the network 5; .*\(linear\.weight, linear\.",
        weights=tmp_path / "w.pt",
        num_classes=5,
    )


def test_torchvision_networks_take_pixels(tmp_path: Path) -> None:
    model = resolve("torchvision:resnet18", num_classes=5)
    x = torch.rand(1, 3, 32, 32)
    normal, inner = model.get_submodule("normal"), model.get_submodule("model")
    assert torch.equal(model(x), inner(normal(x)))
    assert normal.state_dict()["mean"].tolist() == pytest.approx(IMAGENET_MEAN)
    torch.save(inner.state_dict(), tmp_path / "resnet18.pth")
    again = resolve("torchvision:resnet18", num_classes=5, weights=tmp_path / "resnet18.pth")
    assert torch.equal(again(x), model(x))
    fails("torchvision:resnet18", "3 channels only, not 1", in_channels=1)
    fails("torchvision:resnet18", "num_classes is -1; give a whole number", num_classes=-1)


def test_timm_networks_bring_their_normalisation() -> None:
    pytest.importorskip("timm")
    model = resolve("timm:vit_tiny_patch16_224", num_classes=5)
    normal = model.get_submodule("normal")
    assert isinstance(normal, Normalize)
    assert normal.mean.tolist() == [0.5] * 3
    assert resolve("timm:resnet10t", num_classes=5, in_channels=1)(torch.rand(1, 1, 32, 32)).shape == (1, 5)
    fails("timm:resnet1", "timm has no network 'resnet1' \\(did you mean")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    fails("timm:resnet18", r"pip install 'robustsabn\[timm\]'", MissingExtraError)


def test_run_folders_are_handed_to_the_trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(tmp_path, "is not a run folder")
    (tmp_path / "config.yaml").touch()
    (tmp_path / "checkpoints").mkdir()
    runs: Any = ModuleType("robustsabn.trainers.adversarial.runs.models")
    made = nn.Dropout()
    runs.load_run_model = lambda folder, checkpoint: (
        made if (folder, checkpoint) == (tmp_path, "best") else None
    )
    monkeypatch.setitem(sys.modules, "robustsabn.trainers.adversarial.runs.models", runs)
    assert resolve(str(tmp_path)) is made
    assert not made.training
    fails(tmp_path, "has its own weights", weights="w.pt")


def test_missing_weight_files(nets: Path) -> None:
    fails(f"{nets}:make", "no such weight file: nowhere.pt", weights="nowhere.pt")
