"""What a run notes of how it was computed: at its start, at each resume, and at its end."""

import hashlib
import json
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robustsabn.data import load
from robustsabn.errors import CheckpointError
from robustsabn.report.provenance import computed_with, processor, tensors_sha256
from robustsabn.trainers import train
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.runs.config_diff import departures
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import read_records, training_seconds
from robustsabn.trainers.runs.provenance import Provenance, read_provenance
from robustsabn.trainers.tasks import load_config
from tests.helpers.runs import TINY, die


def test_a_run_notes_its_data_and_weights(ended: Path) -> None:
    known = read_provenance(RunFolder(ended))
    data = load("digits", validation=40, n=32)
    state = hashlib.sha256(repr(list(data.classes)).encode())
    for part, images in (("test", data.test), ("train", data.train), ("validation", data.validation)):
        state.update(f"{part} {len(images)} {images.shape}".encode())
        state.update(images.labels.numpy().tobytes())
        pixels, _ = images.batch(torch.arange(len(images)))
        state.update(np.round(pixels.numpy() * 255).astype("uint8").tobytes())
    assert known.data_sha256 == {"data": state.hexdigest()}
    for name in ("best", "last"):
        files = read_facts(ended / "checkpoints", name)["files"]
        assert known.weights_sha256[f"{name}/model.safetensors"] == files["model.safetensors"]
    assert set(known.weights_sha256) == {"best/model.safetensors", "last/model.safetensors"}
    (session,) = known.sessions
    assert {**session, "date": ""} == {**computed_with("cpu"), "date": "", "step": "0", "processes": "1"}
    assert known.ended.endswith("UTC")


def test_a_resume_is_noted_beside_the_start(tmp_path: Path) -> None:
    config = {**TINY, "out": str(tmp_path / "run")}
    die(config, 6)
    assert read_provenance(RunFolder(tmp_path / "run")).ended == ""
    train(config, resume=True)
    known = read_provenance(RunFolder(tmp_path / "run"))
    assert [session["step"] for session in known.sessions] == ["0", "6"]
    assert ("started", f"{known.sessions[0]['date']}, resumed at step 6") in known.facts()
    train(config, resume=True)  # nothing left to do
    assert read_provenance(RunFolder(tmp_path / "run")) == known


def test_a_run_of_an_earlier_version_that_was_resumed_did_not_start_then() -> None:
    known = Provenance(sessions=[{"date": "2026-01-02 03:04 UTC", "step": "50"}])
    assert known.facts() == [("started", "2026-01-02 03:04 UTC, resumed at step 50")]


def test_hashes_of_the_data_are_no_training_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = count(step=0.001)
    elapsed = [0.0]

    def hashed(task: AdversarialTraining) -> dict[str, str]:
        elapsed[0] += 1000
        return {}

    clock = SimpleNamespace(perf_counter=lambda: next(now) + elapsed[0], monotonic=time.monotonic)
    monkeypatch.setattr("robustsabn.trainers.runs.monitor.time", clock)
    monkeypatch.setattr(AdversarialTraining, "data_sha256", hashed)
    train({**TINY, "epochs": 1, "out": str(tmp_path / "run")})
    assert elapsed == [1000]
    seconds = training_seconds(list(read_records(tmp_path / "run" / "metrics.jsonl")), TINY["batch_size"])
    assert seconds is not None
    assert seconds < 1


def test_runs_of_earlier_versions_know_nothing_and_damaged_files_are_refused(ended: Path) -> None:
    (ended / "provenance.json").write_text(json.dumps({"sessions": 3}))
    with pytest.raises(CheckpointError, match=r"provenance\.json"):
        read_provenance(RunFolder(ended))
    (ended / "provenance.json").unlink()
    assert read_provenance(RunFolder(ended)) == Provenance()
    assert Provenance().facts() == []


def test_hashes_of_tensors_depend_on_name_shape_type_and_content() -> None:
    base = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(2, dtype=torch.long)}
    same = {"b": base["b"].clone(), "a": base["a"].t().contiguous().t()}
    assert tensors_sha256(base) == tensors_sha256(same)
    others = [
        {**base, "a": base["a"].view(3, 2)},
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"] + 1},
        {"c": base["a"], "b": base["b"]},
    ]
    assert len({tensors_sha256(one) for one in (base, *others)}) == 5
    assert processor()


def test_departures_are_what_differs_from_the_defaults_of_the_choice() -> None:
    assert departures(load_config({})) == []
    config = load_config({"method": "trades", "norm": "bn", "out": "runs/x", "ema": 0.9}, ["optim.lr=0.3"])
    assert {key: (value, default) for key, value, default in departures(config)} == {
        "ema": (0.9, None),
        "norm": ("bn", "saauxbn"),
        "method": ("trades", "paired"),
        "optim.lr": (0.3, 0.1),
    }
    beta = load_config({"method": {"name": "trades", "beta": 2.0}})
    assert [key for key, *_ in departures(beta)] == ["method", "method.beta"]
