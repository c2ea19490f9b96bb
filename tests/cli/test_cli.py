"""The command line: exit codes, one-line errors, listings."""

import re
import subprocess
import sys

import pytest

from robustsabn import __version__, cli, config
from robustsabn.cli import main
from robustsabn.config.recipes import recipes_by_task
from robustsabn.errors import ConfigError
from robustsabn.trainers.tasks import TASKS, load_config
from tests.helpers import ROOT


def test_recipes_lists_every_packaged_file_below_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in printed if line.startswith("  ")]
    assert {line for line in printed if not line.startswith("  ")} <= {f"task {task}:" for task in TASKS}
    files = list((ROOT / "configs").rglob("*.yaml"))
    assert sorted(names) == list(config.recipes()) == sorted(path.stem for path in files)


def test_a_recipe_lies_in_the_folder_of_its_task() -> None:
    for task, found in recipes_by_task().items():
        assert {load_config(name).task for name in found} == {task}


def test_info_names_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^robustsabn +{re.escape(__version__)}$", out, re.MULTILINE)
    for name in ("torch", "torchvision", "accelerate", "cpu threads", "foolbox"):
        assert re.search(rf"^{name} +\S", out, re.MULTILINE), name


def test_errors_are_one_line_and_exit_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(args: object) -> None:
        raise ConfigError("first\n  second")

    monkeypatch.setattr(cli.recipes, "run", fail)
    assert main(["recipes"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "robustsabn: first second\n"
    assert captured.out == ""


def test_an_interrupt_exits_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.recipes, "run", interrupt)
    assert main(["recipes"]) == 130
    assert capsys.readouterr().err == "robustsabn: interrupted\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "VERB"),
        (["trian"], "invalid choice: 'trian'"),
        (["recipes", "--fast"], "--fast is not an option"),
    ],
)
def test_bad_usage_is_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "--help" in err
    assert err.count("\n") == 1


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "robustsabn", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
