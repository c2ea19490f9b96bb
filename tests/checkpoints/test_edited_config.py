"""config.yaml edited after training: refused, or said."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustsabn.cli import main
from robustsabn.errors import CheckpointError
from robustsabn.trainers import compare, evaluate_run, load_run_config
from robustsabn.trainers.checkpoints.files import read_facts
from tests.helpers.runs import TINY, die


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
        ({"epochs": 9}, "epochs is 9, the checkpoint was trained with 2"),
        ({"model_options": {"width": 3}}, "model_options.width is 3, the checkpoint was trained with"),
    ],
)
def test_what_makes_another_training_is_refused_by_all_who_read_it(
    ended: Path, values: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(ended, **values)
    for ask in (load_run_config, evaluate_run, lambda folder: compare([folder])):
        with pytest.raises(CheckpointError, match=said):
            ask(ended)
    for verb in (["evaluate", str(ended)], ["report", str(ended)]):
        assert main(verb) == 2
        assert "was edited after training" in capsys.readouterr().err


def test_what_changes_nothing_is_fine(ended: Path) -> None:
    text = (ended / "config.yaml").read_text()
    (ended / "config.yaml").write_text("# mine\n" + text)
    edit(ended, log_every=4, device="auto", test={"steps": 7}, out="elsewhere")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_run_config(ended).test.steps == 7


def test_another_place_of_the_data_is_said(ended: Path) -> None:
    edit(ended, data="digits:")
    with pytest.warns(UserWarning, match="data is digits:, it was digits"):
        load_run_config(ended)


def test_resume_with_an_edited_file_says_so_and_signs_it(
    ended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(ended, steps=9, attack={"eps": 0.2})
    assert main(["train", str(ended / "config.yaml"), "--resume", f"out={ended}"]) == 0
    assert "resuming with other settings: steps None -> 9, attack.eps 0.1 -> 0.2" in capsys.readouterr().out
    assert load_run_config(ended).attack.eps == 0.2
    assert evaluate_run(ended, attack="pgd-1", n=4).eps == 0.2


def test_a_resumed_run_keeps_its_file_until_it_has_done_something(ended: Path) -> None:
    before = (ended / "config.yaml").read_bytes()
    more = {**TINY, "steps": 12, "attack": {**TINY["attack"], "eps": 0.2}, "out": str(ended)}
    die(more, 8, resume=True)
    assert (ended / "config.yaml").read_bytes() == before
    assert load_run_config(ended).attack.eps == 0.1
    die(more, 9, resume=True)
    assert load_run_config(ended).attack.eps == 0.2
    (ended / "config.yaml").write_bytes(before)  # as a kill between the checkpoint and the file leaves it
    assert load_run_config(ended).attack.eps == 0.2
    edit(ended, seed=1)
    with pytest.raises(CheckpointError, match="was edited after training"):
        load_run_config(ended)


def test_runs_of_earlier_versions_are_read_as_they_are(ended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "robustsabn.trainers.checkpoints.edited.read_facts",
        lambda *given: {k: v for k, v in read_facts(*given).items() if k != "config_file"},
    )
    edit(ended, attack={"eps": 0.3})
    assert load_run_config(ended).attack.eps == 0.3
