"""config.yaml edited after training: refused, or said."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustsabn.cli import main
from robustsabn.errors import CheckpointError
from robustsabn.trainers import compare, evaluate_run, load_run_config, train
from robustsabn.trainers.checkpoints.files import read_facts
from tests.helpers.runs import die

CONFIG: dict[str, Any] = {
    "images": 48,
    "batch_size": 16,
    "steps": 2,
    "checkpoint_every": 1,
    "attack": {"eps": 0.1, "steps": 1},
    "validation": {"images": 4, "steps": 1},
    "test": {"images": 4, "steps": 1},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    train({**CONFIG, "out": str(out)})
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def edit(run: Path, **values: Any) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in values.items():
        if isinstance(value, dict):
            config[key].update(value)
        else:
            config[key] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"attack": {"eps": 0.3}}, "attack.eps is 0.3, the checkpoint was trained with 0.1"),
        ({"attack": {"norm": "L2"}}, "attack.norm is L2, the checkpoint was trained with Linf"),
        ({"method": "trades"}, "method.name is trades, the checkpoint was trained with paired"),
        ({"seed": 5}, "seed is 5, the checkpoint was trained with 0"),
        ({"steps": 9}, "steps is 9, the checkpoint was trained with 2"),
        ({"model_options": {"width": 3}}, "model_options.width is 3, the checkpoint was trained with"),
    ],
)
def test_what_makes_another_training_is_refused_by_all_who_read_it(
    run: Path, values: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run, **values)
    for ask in (load_run_config, evaluate_run, lambda folder: compare([folder])):
        with pytest.raises(CheckpointError, match=said):
            ask(run)
    for verb in (["evaluate", str(run)], ["report", str(run)]):
        assert main(verb) == 2
        assert "was edited after training" in capsys.readouterr().err


def test_what_changes_nothing_is_fine(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text("# mine\n" + text)
    edit(run, log_every=3, device="auto", test={"steps": 7}, out="elsewhere")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_run_config(run).test.steps == 7


def test_another_place_of_the_data_is_said(run: Path) -> None:
    edit(run, data="digits:")
    with pytest.warns(UserWarning, match="data is digits:, it was digits"):
        load_run_config(run)


def test_resume_with_an_edited_file_says_so_and_signs_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(run, steps=3, attack={"eps": 0.2})
    assert main(["train", str(run / "config.yaml"), "--resume", f"out={run}"]) == 0
    assert "resuming with other settings: steps 2 -> 3, attack.eps 0.1 -> 0.2" in capsys.readouterr().out
    assert load_run_config(run).attack.eps == 0.2
    assert evaluate_run(run, attack="pgd-1", n=4).eps == 0.2


def test_a_resumed_run_keeps_its_file_until_it_has_done_something(run: Path) -> None:
    before = (run / "config.yaml").read_bytes()
    more = {**CONFIG, "steps": 4, "attack": {"eps": 0.2, "steps": 1}, "out": str(run)}
    die(more, 2, resume=True)
    assert (run / "config.yaml").read_bytes() == before
    assert load_run_config(run).attack.eps == 0.1
    die(more, 3, resume=True)
    assert load_run_config(run).attack.eps == 0.2
    (run / "config.yaml").write_bytes(before)  # as a kill between the checkpoint and the file leaves it
    assert load_run_config(run).attack.eps == 0.2
    edit(run, seed=1)
    with pytest.raises(CheckpointError, match="was edited after training"):
        load_run_config(run)


def test_runs_of_earlier_versions_are_read_as_they_are(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "robustsabn.trainers.checkpoints.edited.read_facts",
        lambda *given: {k: v for k, v in read_facts(*given).items() if k != "config_file"},
    )
    edit(run, attack={"eps": 0.3})
    assert load_run_config(run).attack.eps == 0.3
