"""`robustsabn autoattack`: files, folders, resume, engines, wrong usage."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robustsabn.cli import main
from robustsabn.cli.support.evaluation import short
from tests.helpers import ROOT

NET = """
from torch import nn

def make(num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, num_classes))

def half(num_classes, in_channels):
    return make(num_classes, in_channels).bfloat16()

class Narrow(nn.Sequential):
    def forward(self, x):
        assert x.shape[-1] == 5, "only 5 wide"

class Texts(nn.Sequential):
    def forward(self, x):
        return "five"

def narrow(num_classes, in_channels):
    return Narrow(*make(num_classes, in_channels))

def texts(num_classes, in_channels):
    return Texts(*make(num_classes, in_channels))
"""
BALL = ["--norm", "Linf", "--eps", "0.1"]
QUICK = ["--attacks", "apgd-ce", "--batch-size", "8", "--device", "cpu"]


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model file, weights and data in an empty working directory, and the arguments that name them."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    scope: dict[str, Any] = {}
    exec(NET, scope)  # noqa: S102
    model: nn.Module = scope["make"](3, 1)
    save_file(model.state_dict(), "net.safetensors")
    images = np.random.default_rng(0).integers(40, 216, (12, 8, 8), dtype=np.uint8)
    x = torch.from_numpy(images).float()[:, None] / 255
    labels = model(x).argmax(1).numpy()
    labels[0] = (labels[0] + 1) % 3
    np.savez("data.npz", test_images=images, test_labels=labels, classes=np.array(["a", "b<", "c"]))
    return ["--model", "net.py:make", "--weights", "net.safetensors", "--data", "npz:data.npz", *BALL]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_sample.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def journalled(folder: str) -> int:
    return sum(part.stat().st_size for part in Path(folder, "journal").glob("part-*.bin"))


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert err.startswith("robustsabn: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("runs/digits", "digits"),
        ("../zoo.v2/net.py:make", "net-make"),
        ("package.module:make", "module-make"),
        ("torchvision:resnet18", "resnet18"),
        (":", "model"),
    ],
)
def test_the_folder_is_named_after_the_model(model: str, name: str) -> None:
    assert short(model) == name


def test_one_command_leaves_a_report(setting: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autoattack", *setting, *QUICK]) == 0
    said = capsys.readouterr().out
    folder = Path("runs/autoattack-net-make")
    assert f"written to {folder}" in said
    assert "apgd-ce: robust accuracy" in said
    assert "95 % interval" in said
    content = json.loads((folder / "report.json").read_text())
    assert content["clean_accuracy"] == pytest.approx(11 / 12)
    assert content["about"]["command"] == " ".join(["robustsabn autoattack", *setting, *QUICK])
    assert content["about"]["model"] == "net.py:make"
    assert len(rows(folder)) == 12
    assert "b&lt;" in (folder / "report.html").read_text()
    x_adv = load_file(folder / "adversarial.safetensors")["x_adv"]
    assert x_adv.shape == (12, 1, 8, 8)


def test_a_folder_is_never_overwritten_and_can_be_resumed(
    setting: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["autoattack", *setting, *QUICK, "--out", "here"]
    assert main(command) == 0
    before = rows(Path("here"))
    capsys.readouterr()
    assert main(command) == 2
    assert "--resume" in one_line(capsys)
    assert main([*command, "--resume"]) == 0
    assert rows(Path("here")) == before


def test_a_subset_keeps_its_numbers_and_its_verdicts(setting: list[str]) -> None:
    assert main(["autoattack", *setting, *QUICK, "--out", "all"]) == 0
    assert main(["autoattack", *setting, *QUICK, "--out", "some", "--n", "5"]) == 0
    by_id = {row["id"]: row for row in rows(Path("all"))}
    some = rows(Path("some"))
    assert len(some) == 5
    assert [row["verdict"] for row in some] == [by_id[row["id"]]["verdict"] for row in some]


def test_two_processes_write_one_report_the_same(setting: list[str]) -> None:
    command = ["autoattack", *setting, *QUICK, "--images", "6"]
    assert main([*command, "--out", "one"]) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*launcher, "-m", "robustsabn", *command, "--out", "two"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to two") == 1
    assert rows(Path("two")) == rows(Path("one"))


@pytest.mark.slow  # autoattack/test_processes.py kills at one moment
def test_killed_at_three_moments_the_command_line_goes_on_to_the_same_files(setting: list[str]) -> None:
    command = ["autoattack", *setting, "--attacks", "apgd-ce,square", "--batch-size", "4", "--device", "cpu"]
    assert main([*command, "--out", "whole"]) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "robustsabn", *command, "--out", "torn"]
    seen = [0]
    for _ in range(3):
        with subprocess.Popen(
            [*words, *(["--resume"] if seen[-1] else [])], env=environment, stdout=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and journalled("torn") <= seen[-1]:
                time.sleep(0.005)
            process.kill()
        seen.append(journalled("torn"))
    assert seen == sorted(set(seen))  # each went further than the one before
    assert seen[-1] < journalled("whole")
    assert not Path("torn/report.json").exists()
    assert main([*command, "--out", "torn", "--resume"]) == 0
    assert rows(Path("torn")) == rows(Path("whole"))
    found, whole = (load_file(Path(name, "adversarial.safetensors")) for name in ("torn", "whole"))
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_a_bfloat16_model_is_taken_as_it_is(setting: list[str]) -> None:
    assert main(["autoattack", *setting, *QUICK, "--model", "net.py:half", "--out", "half"]) == 0
    assert len(rows(Path("half"))) == 12


def test_classes_are_counted_on_the_whole_set(setting: list[str]) -> None:
    with np.load("data.npz") as data:
        np.savez("nameless.npz", test_images=data["test_images"], test_labels=np.arange(12) % 3)
    command = ["autoattack", *setting, *QUICK, "--data", "npz:nameless.npz"]
    assert main([*command, "--n", "1", "--seed", "3", "--out", "one"]) == 0
    assert json.loads(Path("one/report.json").read_text())["classes"] == 3


def test_a_folder_that_cannot_be_is_said_before_the_attack(
    setting: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *args: Any, **more: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["autoattack", *setting, *QUICK, "--out", "there"]) == 2
    captured = capsys.readouterr()
    assert "there: Permission denied" in captured.err
    assert "apgd-ce" not in captured.out


def test_robustbench_files(setting: list[str]) -> None:
    command = ["autoattack", *setting, "--device", "cpu", "--out", "here", "--robustbench", "Me2030"]
    assert main([*command, "--eps", "0.5", "--n", "4"]) == 0
    entry = json.loads(Path("here/Me2030.json").read_text())
    assert (entry["dataset"], entry["eps"]) == ("npz", "0.5")
    assert torch.load("here/Me2030.pt", weights_only=True).shape == (4, 1, 8, 8)


def test_the_official_code_on_the_same_images(setting: list[str]) -> None:
    if not any(importlib.util.find_spec(name) for name in ("pyautoattack", "autoattack")):
        pytest.skip("the official AutoAttack is not installed")
    few = [*setting, *QUICK, "--images", "4"]
    assert main(["autoattack", *few, "--out", "ours"]) == 0
    assert main(["autoattack", *few, "--out", "theirs", "--engine", "official"]) == 0
    ours, theirs = rows(Path("ours")), rows(Path("theirs"))
    assert [row["id"] for row in ours] == [row["id"] for row in theirs]
    assert sum(a["verdict"] != b["verdict"] for a, b in zip(ours, theirs, strict=True)) <= 1
    assert json.loads(Path("theirs/report.json").read_text())["engine"] == "official"


class Shift:
    """An attack shaped like those of torchattacks."""

    def __init__(self, model: nn.Module, eps: float = 1.0, share: float = 1.0, sign: int = 1) -> None:
        self.step = eps * share * sign

    def set_device(self, device: torch.device) -> None: ...

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return x + self.step


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("torchattacks")
    module.Shift = Shift
    monkeypatch.setitem(sys.modules, "torchattacks", module)
    monkeypatch.setattr("robustsabn.attacks.adapters.foreign_attack.version_of", lambda library: "0")


@pytest.mark.usefixtures("library")
def test_the_report_of_another_engine_is_neither_resumed_nor_replaced(
    setting: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["autoattack", *setting, "--attack", "torchattacks:Shift", "--out", "off"]) == 0
    before = Path("off/report.json").read_bytes()
    capsys.readouterr()
    assert main(["autoattack", *setting, *QUICK, "--out", "off", "--resume"]) == 2
    assert "journal/identity.json is missing" in one_line(capsys)
    assert main(["autoattack", *setting, *QUICK, "--out", "off"]) == 2
    assert "--resume" not in one_line(capsys)
    assert Path("off/report.json").read_bytes() == before
    assert not Path("off/journal").exists()


@pytest.mark.usefixtures("library")
def test_an_attack_of_another_library(setting: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["autoattack", *setting, "--device", "cpu", "--attack", "torchattacks:Shift"]
    assert main([*command, "share=1/2", "--out", "here", "sign=-1"]) == 0
    content = json.loads(Path("here/report.json").read_text())
    assert content["version"] == "Shift share=0.5 sign=-1"
    assert main([*command, "shares=1/2", "--out", "there"]) == 2
    assert "'shares'" in one_line(capsys)
    assert not Path("there").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--eps", "8"], "8/255?"),
        (["--eps", "half"], "--eps must be a number"),
        (["--norm", "L3"], "invalid choice: 'L3'"),
        (["--version", "standart"], "standart"),
        (["--version", "standard", "--attacks", "square"], "custom"),
        (["--attacks", "squares"], "'squares'"),
        (["--version", "custom"], "--attacks apgd-ce,square"),
        (["--robustbench", "up/Me"], "without folders"),
        (["--robustbench", "Me", "--autocast"], "without --autocast"),
        (["--model", "net.py:narrow"], "AssertionError: only 5 wide"),
        (["--model", "net.py:texts"], "returns a str"),
        (["--batch-size", "many"], "auto or a number"),
        (["--n", "0"], "--n must be at least 1"),
        (["--n", "13"], "but the set has 12"),
        (["--route", "adv"], "no route 'adv'"),
        (["--num-classes", "4"], "does not fit"),
        (["--data", "digit"], "did you mean digits?"),
        (["--data", "digits", "--weights", "no.pt"], "no.pt"),
        (["--model", "net.py:mak"], "did you mean make?"),
        (["--engine", "official", "--resume"], "engine robustsabn only"),
        (["--resume"], "nothing in"),
        (["--attack", "foolbox:LinfPGD", "--version", "plus"], "excludes --engine"),
        (["steps=3"], "--attack LIB:CLASS"),
        (["--robustbench", "Me", "--version", "plus"], "needs version standard"),
        (["--seed", "-1"], "--seed"),
        (["--device", "tpu"], "--device"),
        (["--out", "net.py"], "is a file"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(
    setting: list[str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir())
    assert main(["autoattack", *setting, "--device", "cpu", *more]) == 2
    assert said in one_line(capsys)
    assert sorted(os.listdir()) == before


def test_images_that_the_model_cannot_take_are_said(
    setting: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("large.npz", images=np.zeros((12, 9, 20), np.uint8), labels=np.arange(12) % 3)
    assert main(["autoattack", *setting, "--data", "npz:large.npz"]) == 2
    assert "(1, 9, 20)" in one_line(capsys)
