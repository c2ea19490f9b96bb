"""The command line: exit codes, one-line errors, listings."""

import os
import re
import shlex
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
    assert printed.pop() == "next: robustsabn train digits"
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
    assert out.splitlines()[-1] == "next: robustsabn recipes"


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
        (["trian"], "invalid choice: 'trian'"),
        (["recipes", "--fast"], "--fast is not an option"),
        (["--fast"], "--fast is not an option"),
    ],
)
def test_bad_usage_is_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "--help" in err
    assert err.count("\n") == 1


def test_alone_it_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: robustsabn")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("robustsabn tr", {"train"}),
        ("robustsabn train cifar10-s", {"cifar10-saauxbn", "cifar10-small"}),
        ("robustsabn autoattack --dow", {"--download"}),
    ],
)
def test_the_shell_completes_commands_recipes_and_options(line: str, words: set[str]) -> None:
    pytest.importorskip("argcomplete")
    said = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1"}
    # the answer goes to file descriptor 8
    command = f"{shlex.quote(sys.executable)} -m robustsabn 8>&1 9>&2 >/dev/null 2>&1"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, **said, "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == words


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
