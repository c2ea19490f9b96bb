"""The verbs on one short run: train, resume, evaluate, export."""

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from robustsabn import config, route
from robustsabn.cli import main
from robustsabn.models import build
from robustsabn.trainers import TrainConfig, load_run_model

SHORT = [
    "steps=3",
    "batch_size=16",
    "images=64",
    "attack.steps=1",
    "validation.images=10",
    "test.images=10",
    "test.steps=1",
]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "short"
    assert main(["train", "digits", *SHORT, f"out={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def images(run_folder: Path) -> torch.Tensor:
    return torch.rand(4, 1, 8, 8)


def test_train_prints_a_table_and_resume_finds_nothing_to_do(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_folder / "checkpoints" / "last" / "model.safetensors").read_bytes()
    assert main(["train", "digits", *SHORT, "--resume", f"out={run_folder}"]) == 0
    assert "adv route" in capsys.readouterr().out
    assert (run_folder / "checkpoints" / "last" / "model.safetensors").read_bytes() == before


def test_print_config_prints_what_a_run_would_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "digits", "--print-config", "epochs=7", "attack.eps=8/255"]) == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    assert config.load(TrainConfig, path) == config.load(
        TrainConfig, "digits", ["epochs=7", "attack.eps=8/255"]
    )


def test_evaluate_prints_and_writes_every_route(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_folder), "--n", "20", "--attack", "pgd-2"]) == 0
    assert "pgd-2 through adv" in capsys.readouterr().out
    written = json.loads((run_folder / "report" / "evaluation.json").read_text())
    assert written["n"] == 20
    assert written["data"] == "digits"
    assert set(written["clean"]) == set(written["robust"]) == {"clean", "adv"}


def test_evaluate_one_route(run_folder: Path) -> None:
    assert main(["evaluate", str(run_folder), "--n", "20", "--attack", "pgd-1", "--route", "adv"]) == 0
    written = json.loads((run_folder / "report" / "evaluation.json").read_text())
    assert list(written["clean"]) == ["adv"]


def test_exported_safetensors_load_into_the_plain_architecture(
    run_folder: Path, images: torch.Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "adv.safetensors"
    assert main(["export", str(run_folder), "--route", "adv", "--out", str(path)]) == 0
    plain = build("resnet-digits", 10, 1).eval()
    plain.load_state_dict(load_file(path), strict=True)
    routed = load_run_model(run_folder)
    with torch.no_grad(), route(routed, "adv"):
        torch.testing.assert_close(plain(images), routed(images))
    with safe_open(path, "pt") as file:
        assert file.metadata()["route"] == "adv"
    assert [left.name for left in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_exported_programs_take_any_batch_size(
    run_folder: Path, images: torch.Tensor, tmp_path: Path, format: str
) -> None:
    path = tmp_path / "adv.bin"
    assert main(["export", str(run_folder), "--route", "adv", "--format", format, "--out", str(path)]) == 0
    if format == "onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        logits = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
    else:
        archive = path.rename(tmp_path / "adv.pt2")
        logits = torch.export.load(str(archive)).module()(images).detach()
    routed = load_run_model(run_folder)
    with torch.no_grad(), route(routed, "adv"):
        torch.testing.assert_close(logits, routed(images), rtol=1e-4, atol=1e-5)
