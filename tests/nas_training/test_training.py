"""Runs of a tiny search: what they keep, how they resume, what they print."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.nas import Cell
from robustsabn.trainers import compare, train
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.compiling import compile_network
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.nas import networks
from robustsabn.trainers.nas.results import found_cell
from robustsabn.trainers.nas.task import ArchitectureSearch
from robustsabn.trainers.pages import write_run_page
from robustsabn.trainers.tasks import load_config
from tests.helpers.launch import launch
from tests.helpers.nas.tiny_search import made_up, tiny, write_table
from tests.helpers.runs import metrics

TIMED = ("seconds",)
SEARCHES: dict[str, dict[str, Any]] = {
    "darts": {},
    "blended": {"routes": "blended", "statistics": "running"},
    "faithful": {"faithful": True, "norm": "ccbn"},
    "second order": {"search": "darts-second-order", "norm": "bn-affine"},
    "gdas": {"search": "gdas", "schedule_epochs": 5},
    "random sharing": {"search": "random-sharing", "norm": "bn"},
    "random": {"search": "random", "trial_epochs": 1},
}
QUICK = ("blended", "random sharing", "random")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_table(tmp_path_factory.mktemp("table") / "table.csv", every=50)


def records(folder: Path) -> list[dict[str, Any]]:
    return [{key: v for key, v in entry.items() if key not in TIMED} for entry in metrics(folder)]


def same(a: Path, b: Path) -> None:
    """The checkpoints are equal to the bit, and so are the records, but for times."""
    for name in ("best", "last"):
        first, second = (read(folder / "checkpoints", name) for folder in (a, b))
        torch.testing.assert_close(first.tensors, second.tensors, rtol=0, atol=0)
    assert records(a) == records(b)


def failing(config: dict[str, Any], at: int) -> None:
    class Failing(ArchitectureSearch):
        def step(self, step: int) -> dict[str, Tensor]:
            if step == at:
                raise MemoryError
            return super().step(step)

    loaded: Any = load_config(config)
    with pytest.raises(MemoryError):
        run(loaded, Failing)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SEARCHES],
)
def test_a_search_that_fails_resumes_to_the_bit(tmp_path: Path, table: str, name: str) -> None:
    changes = {**SEARCHES[name], "table": table, "validation": {"images": 10}}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(tiny(whole, **changes))
    failing(tiny(cut, **changes), at=5)
    train(tiny(cut, **changes), resume=True)
    same(whole, cut)


def test_a_search_has_a_cell_a_page_and_a_place_in_the_comparison(tmp_path: Path, table: str) -> None:
    result = train(tiny(tmp_path / "run", table=table))
    (group,) = compare([tmp_path / "run"]).groups
    cell = found_cell(tmp_path / "run")
    assert result.evaluation.cell == str(cell)
    assert {"kendall_tau", "accuracy", "skips"} <= group.runs[0].numbers.keys()
    assert -1 <= group.runs[0].numbers["kendall_tau"] <= 1
    page = write_run_page(tmp_path / "run").read_text()
    for words in ("Weights of the operations on each edge", "The found cell", str(cell)):
        assert words in page
    assert page.count("data:image/png") == 2


def test_the_found_cell_has_its_place_in_a_whole_table(tmp_path: Path) -> None:
    whole = write_table(tmp_path / "whole.csv")
    found = train(tiny(tmp_path / "run", table=whole, steps=2)).evaluation
    accuracy = made_up(Cell.parse(found.cell))
    assert found.table_accuracy == pytest.approx(accuracy / 100)
    assert found.placed["other"]["accuracy"] == pytest.approx((90 - accuracy) / 100)
    assert found.dataset == "digits"
    last = metrics(tmp_path / "run")[-1]
    assert (last["kind"], last["cell"], last["rank"]) == ("test", found.cell, found.rank)


def test_without_a_table_the_search_works_and_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train(tiny(tmp_path / "run", steps=2)).evaluation
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no table" in line]
    assert "table=" in line
    assert "github.com/D-X-Y/NATS-Bench" in line
    assert found.rank is found.kendall_tau is None
    assert found.accuracy is not None


def test_a_table_given_later_closes_the_run_again_without_training(
    tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny(tmp_path / "run", steps=2))
    weights = read(tmp_path / "run" / "checkpoints", "last").tensors
    again = train(tiny(tmp_path / "run", steps=2, table=table), resume=True)
    assert again.evaluation.kendall_tau is not None
    torch.testing.assert_close(read(tmp_path / "run" / "checkpoints", "last").tensors, weights)
    capsys.readouterr()
    train(tiny(tmp_path / "run", steps=2, table=table), resume=True)
    assert "nothing is computed" in capsys.readouterr().out


def test_evaluations_are_deterministic_and_leave_weights_and_statistics_alone(tmp_path: Path) -> None:
    seen: list[float] = []

    class Twice(ArchitectureSearch):
        def validate(self, step: int, kind: str, heading: str) -> Any:
            before = {name: value.clone() for name, value in self.supernet.state_dict().items()}
            weights, cell = self.supernet.architecture.detach().softmax(1), Cell((3,) * 6)
            found = [self.accuracies([weights, cell], self.division.weights) for _ in range(3)]
            assert found[0] == found[1] == found[2]
            seen.extend(found[0])
            torch.testing.assert_close(dict(self.supernet.state_dict()), before, rtol=0, atol=0)
            assert self.supernet.training
            return super().validate(step, kind, heading)

    loaded: Any = load_config(tiny(tmp_path / "run"))
    run(loaded, Twice)
    assert len(seen) == 4


def test_a_single_path_is_measured_by_the_statistics_of_the_batch(tmp_path: Path) -> None:
    class Measured(ArchitectureSearch):
        def validate(self, step: int, kind: str, heading: str) -> Any:
            cell, held_out = Cell((3, 0, 2, 1, 4, 0)), self.division.held_out
            x, y = held_out.batch(torch.arange(len(held_out)))
            self.supernet.train()
            state = {name: value.clone() for name, value in self.supernet.state_dict().items()}
            with torch.no_grad():
                logits = self.bench.evaluated(cell).logits(self.supernet, x)
            self.supernet.load_state_dict(state)
            hits = sum(int(row.argmax()) == int(label) for row, label in zip(logits, y, strict=True))
            assert self.accuracies([cell], held_out) == [pytest.approx(hits / len(held_out))]
            return super().validate(step, kind, heading)

    loaded: Any = load_config(tiny(tmp_path / "run"))
    run(loaded, Measured)


def test_trials_of_random_search_start_anew_and_the_best_is_kept(tmp_path: Path) -> None:
    trained: list[Any] = []

    class Watched(ArchitectureSearch):
        def step(self, step: int) -> dict[str, Tensor]:
            assert self.trials is not None
            cell, place, length = self.trials.at(step)
            logged = super().step(step)
            trained.append((cell, place, length, self.supernet.linear.weight.clone()))
            if step == 11:
                best = max(range(3), key=self.trials.accuracies.__getitem__)
                assert self.trials.best == self.trials.cells[best]
            return logged

    loaded: Any = load_config(tiny(tmp_path / "run", search="random", trial_epochs=1, epochs=3))
    run(loaded, Watched)
    cells = [cell for cell, *_ in trained]
    assert len(set(cells)) == 3
    assert cells == [cell for cell in dict.fromkeys(cells) for _ in range(4)]
    assert [place for _, place, *_ in trained] == [0, 1, 2, 3] * 3
    first, second, other = (trained[i][3] for i in (0, 1, 4))
    assert (first - second).norm() < (first - other).norm()


def test_the_found_cell_is_trained_from_scratch(tmp_path: Path) -> None:
    found = train(tiny(tmp_path / "run", steps=1, test={"epochs": 1, "seeds": 2})).evaluation
    assert len(found.scratch) == 2
    assert found.scratch_accuracy == pytest.approx(sum(found.scratch) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("name", ["darts", "random"])
def test_a_killed_search_resumes_to_the_bit(tmp_path: Path, name: str, processes: int) -> None:
    changes = SEARCHES[name]
    whole, cut = ({"config": tiny(tmp_path / name, **changes)} for name in ("whole", "cut"))
    code, output = launch([whole], tmp_path, processes)
    assert code == 0, output
    code, _ = launch([{**cut, "die": 5}], tmp_path, processes)
    assert code != 0
    code, output = launch([{**cut, "resume": True}], tmp_path, processes)
    assert code == 0, output
    same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["darts", "blended", "second order", "gdas", "random sharing"])
def test_two_processes_train_what_one_does(tmp_path: Path, name: str) -> None:
    tensors = []
    for processes in (1, 2):
        out = tmp_path / f"run-{processes}"
        code, output = launch([{"config": tiny(out, steps=2, **SEARCHES[name])}], tmp_path, processes)
        assert code == 0, output
        tensors.append(read(out / "checkpoints", "last").tensors["supernet"])
    alike(*tensors)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, in torch
def test_a_search_of_captured_graphs_trains_what_another_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # inductor of torch 2.13 fails on a CPU in the backward pass of images this small
    captured = partial(compile_network, backend="aot_eager")
    monkeypatch.setattr(networks, "compile_network", captured)
    tensors = []
    for compiled in (False, True):
        train(tiny(tmp_path / f"{compiled}", steps=2, compile=compiled))
        tensors.append(read(tmp_path / f"{compiled}" / "checkpoints", "last").tensors["supernet"])
    alike(*tensors)


def test_bf16_computes_in_bf16_and_keeps_float32(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    class Seen(ArchitectureSearch):
        def step(self, step: int) -> dict[str, Tensor]:
            conv: Any = self.supernet.conv1
            hook = conv.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
            logged = super().step(step)
            hook.remove()
            return logged

    loaded: Any = load_config(tiny(tmp_path / "run", precision="bf16", channels_last=True, steps=1))
    run(loaded, Seen)
    assert seen == 2 * [torch.bfloat16]  # of the weights and of the architecture
    tensors = read(tmp_path / "run" / "checkpoints", "last").tensors["supernet"]
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float32}


def alike(one: Any, other: Any) -> None:
    """Weights and statistics are equal up to the order of sums; a step of Adam may enlarge that."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5, msg=name)
