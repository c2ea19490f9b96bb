"""Checkpoints: complete or absent; damage is named; the previous one is there."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustsabn import files
from robustsabn.errors import CheckpointError
from robustsabn.trainers.checkpoints import files as store
from robustsabn.trainers.checkpoints.files import Checkpoint, read, read_newest, write


def make(step: int) -> Checkpoint:
    shared = torch.arange(6.0).view(2, 3) + step
    tensors: dict[str, Tensor] = {
        "a": shared,
        "tied": shared,
        "turned": shared.t(),
        "count": torch.tensor(step),
    }
    return Checkpoint({"model": tensors, "optimizer": {"0.momentum_buffer": shared * 2}}, {"step": step})


def damage_truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def damage_flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))


def damage_remove(file: Path) -> None:
    file.unlink()


def damage_empty(file: Path) -> None:
    file.write_bytes(b"")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path, make(3))
    found = read(tmp_path, "last")
    for name, tensors in make(3).tensors.items():
        torch.testing.assert_close(found.tensors[name], tensors, rtol=0, atol=0)
    assert found.state["step"] == 3
    assert found.state["versions"]["torch"] == torch.__version__
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last"]


def test_last_gives_way_to_previous_and_best_stays(tmp_path: Path) -> None:
    write(tmp_path, make(1), ("last", "best"))
    write(tmp_path, make(2))
    write(tmp_path, make(3))
    assert [read(tmp_path, name).state["step"] for name in ("last", "previous", "best")] == [3, 2, 1]
    write(tmp_path, make(4), ("last", "best"))
    assert [read(tmp_path, name).state["step"] for name in ("last", "previous", "best")] == [4, 3, 4]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best", "last", "previous"]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, damage_remove, damage_empty])
def test_damage_is_named_in_one_line_and_the_previous_is_used(
    tmp_path: Path, file: str, damage: Callable[[Path], None]
) -> None:
    write(tmp_path, make(1))
    write(tmp_path, make(2))
    damage(tmp_path / "last" / file)
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, "last")
    assert str(tmp_path / "last" / file) in str(caught.value)
    assert "\n" not in str(caught.value)
    found, note = read_newest(tmp_path)
    assert found.state["step"] == 1
    assert note == str(caught.value)


def test_an_edited_state_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, make(1))
    file = tmp_path / "last" / "state.json"
    state = json.loads(file.read_text())
    file.write_text(json.dumps({**state, "step": 2}))
    with pytest.raises(CheckpointError, match="altered"):
        read(tmp_path, "last")


def test_both_damaged_names_both(tmp_path: Path) -> None:
    write(tmp_path, make(1))
    write(tmp_path, make(2))
    for name in ("last", "previous"):
        damage_truncate(tmp_path / name / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"last.*previous.*start again"):
        read_newest(tmp_path)


def test_a_missing_checkpoint_says_which_there_are(tmp_path: Path) -> None:
    write(tmp_path, make(1))
    with pytest.raises(CheckpointError, match=r"best: no such checkpoint; there are: last"):
        read(tmp_path, "best")


@pytest.mark.parametrize("moment", range(1, 16))
def test_a_crash_at_any_moment_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    write(tmp_path, make(1), ("last", "best"))
    write(tmp_path, make(2), ("last", "best"))
    calls = 0
    monkeypatch.setattr(store, "_clean", lambda folder: None)  # a kill cleans nothing

    # dies at one of the flushes, links and renames that make up a write
    for owner, name in (
        (Path, "rename"),
        (Path, "replace"),
        (store, "flush"),
        (files, "flush"),
        (store, "_copy"),
    ):
        real = getattr(owner, name)

        def guarded(*args: object, _real: Callable[..., object] = real) -> object:
            nonlocal calls
            calls += 1
            if calls == moment:
                raise KeyboardInterrupt
            return _real(*args)

        monkeypatch.setattr(owner, name, guarded)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, make(3), ("last", "best"))
    monkeypatch.undo()
    newest, _ = read_newest(tmp_path)
    assert newest.state["step"] in (2, 3)
    assert read(tmp_path, "best").state["step"] in (2, 3)
    write(tmp_path, make(4), ("last", "best"))
    assert read(tmp_path, "last").state["step"] == read(tmp_path, "best").state["step"] == 4
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("make_optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_optimisers_go_on_where_they_were(make_optimizer: type[torch.optim.Optimizer]) -> None:
    def trained(steps: int, optimizer: torch.optim.Optimizer, model: nn.Module, first: int = 0) -> None:
        for step in range(first, steps):
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.rand(4, 3)).square().sum().backward()
            optimizer.step()

    def fresh() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(9)
        model = nn.Linear(3, 2)
        if make_optimizer is torch.optim.SGD:
            return model, torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=0.1)
        return model, torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.1)

    straight, optimizer = fresh()
    trained(6, optimizer, straight)
    half, first = fresh()
    trained(3, first, half)
    again, second = fresh()
    again.load_state_dict(half.state_dict())
    store.restore_optimizer(second, store.optimizer_tensors(first))
    trained(6, second, again, 3)
    assert torch.equal(straight.weight, again.weight)
    assert torch.equal(straight.bias, again.bias)


def test_a_folder_is_flushed_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    renamed: list[Path] = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        if self.name.startswith(".writing-"):
            assert self in flushed
            renamed.append(target)
        return rename(self, target)

    monkeypatch.setattr(store, "flush", flushed.append)
    monkeypatch.setattr(Path, "rename", watched)
    write(tmp_path, make(1), ("last", "best"))
    assert [path.name for path in renamed] == ["best", "last"]
