"""Crafted states and journals: one line, no traceback, and only tensors and numbers are loaded."""

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from robustsabn.errors import CheckpointError, InputError, RobustsabnError
from robustsabn.trainers import load_run_model, train
from robustsabn.trainers.checkpoints.files import _digest, _sha256
from tests.helpers.attacks.autoattack_case import attack
from tests.helpers.attacks.networks import conv_case
from tests.helpers.runs import TINY


def sign(checkpoint: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Alter the state of a checkpoint, with the right digest."""
    file = checkpoint / "state.json"
    state = json.loads(file.read_text())
    del state["sha256"]
    change(state)
    file.write_text(json.dumps({**state, "sha256": _digest(state)}))


def forge(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    for checkpoint in (run / "checkpoints").iterdir():
        sign(checkpoint, change)


def forge_tensors(run: Path, name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    for file in (run / "checkpoints").glob(f"*/{name}.safetensors"):
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)
        digest = {file.name: _sha256(file)}
        sign(file.parent, lambda state, digest=digest: state["files"].update(digest))  # type: ignore[misc]


def refused(run: Path, loads: bool = False) -> None:
    """Whether going on is refused in one line; and whether loading is."""
    more = {**TINY, "steps": 9, "out": str(run)}
    asked: list[Callable[[], Any]] = [lambda: train(more, resume=True)]
    for ask in asked + ([] if loads else [lambda: load_run_model(run)]):
        with pytest.raises(RobustsabnError) as caught:
            ask()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["step", "epoch", "best", "classes", "shape", "config", "ema", "files", "format"]
)
@pytest.mark.parametrize("value", [None, "1", -3, [], {"a": 1}, [["x"]], True, 1e400])
def test_a_value_of_another_type(ended: Path, key: str, value: Any) -> None:
    if (key, value) in (("config", {"a": 1}), ("epoch", True), ("epoch", 1e400), ("format", True)):
        value = ["neither"]
    forge(ended, lambda state: state.update({key: value}))
    refused(ended)


@pytest.mark.parametrize("key", ["step", "epoch", "best", "classes", "shape", "config", "files", "format"])
def test_a_value_that_is_missing(ended: Path, key: str) -> None:
    forge(ended, lambda state: state.pop(key))
    refused(ended)


@pytest.mark.parametrize(
    "name", ["../last/model.safetensors", "/etc/passwd", "model.pt", "a/b.safetensors", ""]
)
def test_files_elsewhere_or_of_another_kind(ended: Path, name: str) -> None:
    forge(ended, lambda state: state["files"].update({name: "0" * 64}))
    refused(ended)


def test_a_state_that_is_no_object_or_never_ends(ended: Path) -> None:
    for text in ("[]", "3", '"x"', "null", "[" * 100_000, '{"a":' * 50_000, "NaN", "\0", "{}"):
        for file in (ended / "checkpoints").glob("*/state.json"):
            file.write_text(text)
        refused(ended)


def test_tensors_that_are_not_those_of_the_run(ended: Path, tmp_path: Path) -> None:
    changes: list[tuple[str, Callable[[dict[str, torch.Tensor]], Any], bool]] = [
        ("optimizer", lambda t: t.update({"x.momentum_buffer": torch.zeros(1)}), True),
        ("optimizer", lambda t: t.update({"999.momentum_buffer": torch.zeros(1)}), True),
        ("optimizer", lambda t: t.update({"": torch.zeros(1)}), True),
        ("optimizer", lambda t: t.update({"0.momentum_buffer": torch.zeros(7, 7)}), True),
        ("model", lambda t: t.clear(), False),
        ("model", lambda t: t.update({"extra": torch.zeros(1)}), False),
    ]
    for index, (name, change, loads) in enumerate(changes):
        there = Path(shutil.copytree(ended, tmp_path / f"{index}"))
        forge_tensors(there, name, change)
        refused(there, loads)


def record(head: Any, pixels: bytes = b"") -> bytes:
    body = (head if isinstance(head, bytes) else json.dumps(head).encode()) + b"\n" + pixels
    return f"{len(body)} {zlib.crc32(body)}\n".encode() + body


HEADS: list[Any] = [
    {},
    [],
    "text",
    None,
    b"{",
    b"[" * 50_000,
    {"attack": 0},
    {"attack": "apgd", "seconds": "soon"},
]


def test_records_that_somebody_made_up(tmp_path: Path) -> None:
    model, x, y = conv_case(count=8)
    attack(model, x, y, folder=tmp_path / "whole")
    (part,) = (tmp_path / "whole" / "journal").glob("part-*.bin")
    with part.open("rb") as file:
        length = int(file.readline().split()[0])
        line, _, pixels = file.read(length).partition(b"\n")
    good = json.loads(line)
    assert len(good["broken"]) > 0
    names = ("attack", "seconds", "numbers", "broken", "aimed", "forwards")
    wrong: list[Any] = [None, "x", -1, -(10**30), [10**9], [-1], [[0]], {}, [1.5], [None], ["a"], 99]
    bodies = [record(head) for head in HEADS]
    bodies += [
        record({**good, name: value}, pixels)
        for name in names
        for value in wrong
        if (name, value) != ("seconds", 99)
    ]
    bodies += [record({**good, "more": [1]}, pixels), record(good, pixels[:-4]), record(good, pixels[:-1])]
    bodies += [record({k: v for k, v in good.items() if k != "flat"}, pixels)]
    far = torch.frombuffer(bytearray(pixels), dtype=torch.float32) + 0.5
    bodies += [record(good, far.numpy().tobytes()), record(good, (far * torch.nan).numpy().tobytes())]
    for body in bodies:
        part.write_bytes(body)
        with pytest.raises(InputError) as caught:
            attack(model, x, y, folder=tmp_path / "whole", resume=True)
        assert "\n" not in str(caught.value), body[:200]
        assert "start again in another folder" in str(caught.value)


@pytest.mark.parametrize(
    "text", [b"99999999999999 1\n", b"-5 1\nabcdef", b"1 2 3\n", b"\xff\xfe\n", b"1e3 1\n", b"5 1\n"]
)
def test_what_is_no_record_is_ignored_as_what_a_kill_cut_short(tmp_path: Path, text: bytes) -> None:
    model, x, y = conv_case(count=8)
    whole = attack(model, x, y, folder=tmp_path)
    (part,) = (tmp_path / "journal").glob("part-*.bin")
    part.write_bytes(part.read_bytes() + text)
    assert attack(model, x, y, folder=tmp_path, resume=True).same_verdicts(whole)


def test_other_files_of_a_journal(tmp_path: Path) -> None:
    model, x, y = conv_case(count=8)
    attack(model, x, y, folder=tmp_path)
    journal = tmp_path / "journal"
    kept = {path: path.read_bytes() for path in journal.iterdir()}
    known = json.loads((journal / "identity.json").read_text())

    def refuse(said: str) -> None:
        with pytest.raises(InputError, match=said) as caught:
            attack(model, x, y, folder=tmp_path, resume=True)
        assert "\n" not in str(caught.value)
        for path, content in kept.items():
            path.write_bytes(content)

    for key, value in (
        ("attacks", 3),
        ("attacks", [3]),
        ("attacks", None),
        ("options", []),
        ("options", None),
    ):
        (journal / "identity.json").write_text(json.dumps({**known, key: value}))
        refuse("journal")
    for text in ("[" * 100_000, "null", "\xff", ""):
        (journal / "identity.json").write_text(text, encoding="latin-1")
        refuse("cannot be read|another version")
    for tensors in (
        {},
        {"logits": torch.zeros(3)},
        {"logits": torch.zeros(8, 10)},
        {"randomised": torch.zeros(2)},
    ):
        save_file(tensors, journal / "clean.safetensors")
        refuse("cannot be read|clean images")
    save_file(
        {"logits": torch.zeros(8, 10, dtype=torch.long), "randomised": torch.zeros(3)},
        journal / "clean.safetensors",
    )
    refuse("cannot be read")
    (journal / "identity.json").unlink()
    refuse("has lost its identity.json")
    (journal / "clean.safetensors").unlink()
    refuse("cannot be read")


def test_a_checkpoint_named_in_the_message(ended: Path) -> None:
    forge(ended, lambda state: state.update(shape=[1, "8", 8]))
    with pytest.raises(CheckpointError, match=r"is not the state of a run: shape is"):
        load_run_model(ended)
