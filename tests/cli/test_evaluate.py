"""`robustsabn evaluate --attack`, and what the verbs that attack share: options, folders, signals."""

import json
import os
import signal
from pathlib import Path

import pytest

from robustsabn.cli import main
from robustsabn.cli.support.evaluation import free_folder, options, stoppable
from robustsabn.errors import UsageError


def test_options_are_read_as_what_they_are() -> None:
    found = options(["steps=40", "alpha=2/255", "rate=1e-3", "random_start=False", "norm=L2", "loss=none"])
    assert found == {
        "steps": 40,
        "alpha": 2 / 255,
        "rate": 1e-3,
        "random_start": False,
        "norm": "L2",
        "loss": None,
    }
    assert isinstance(found["steps"], int)
    with pytest.raises(UsageError, match="name=value"):
        options(["steps"])


def test_folders_by_default_are_the_next_free_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert free_folder(None, "a", False) == Path("runs/a")
    for name in ("a", "a-2"):
        (Path("runs") / name / "inside").mkdir(parents=True)
    assert free_folder(None, "a", False) == Path("runs/a-3")
    with pytest.raises(UsageError, match="runs/a-2 has no evaluation that can be continued"):
        free_folder(None, "a", True)
    Path("runs/a-2/journal").mkdir()
    Path("runs/a-2/journal/identity.json").touch()
    assert free_folder(None, "a", True) == Path("runs/a-2")
    Path("empty").mkdir()
    assert free_folder(Path("empty"), "a", False) == Path("empty")
    with pytest.raises(UsageError, match="nothing in empty"):
        free_folder(Path("empty"), "a", True)


def test_sigterm_stops_as_an_interrupt_does() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stopped() -> None:
        with stoppable():
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "short"
    short = ["steps=3", "batch_size=16", "images=64", "attack.steps=1", "validation.images=10"]
    assert main(["train", "digits", *short, "test.images=10", "test.steps=1", f"out={folder}"]) == 0
    return folder


def test_evaluate_reports_on_every_route(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_folder), "--attack", "autoattack", "--n", "12"]) == 0
    said = capsys.readouterr().out
    assert "attacked through clean" in said
    assert "autoattack through adv" in said
    written = json.loads((run_folder / "report" / "evaluation.json").read_text())
    for route in ("clean", "adv"):
        kept = json.loads((run_folder / "report" / f"autoattack-{route}" / "report.json").read_text())
        assert kept["about"]["route"] == route
        assert written["robust"][route][route] == kept["robust_accuracy"]
        assert written["clean"][route] == kept["clean_accuracy"]
    again = ["--attack", "autoattack", "--n", "6", "--seed", "1", "--route", "adv"]
    assert main(["evaluate", str(run_folder), *again]) == 0  # replaces, as the documentation says
    seeds = {
        route: json.loads((run_folder / "report" / f"autoattack-{route}" / "report.json").read_text())["seed"]
        for route in ("clean", "adv")
    }
    assert seeds == {"clean": 0, "adv": 1}
    assert main(["report", str(run_folder)]) == 0
    page = (run_folder / "report" / "index.html").read_text()
    assert "autoattack-adv/report.html" in page


def test_autoattack_takes_the_last_route_of_a_run(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = ["--data", "digits", "--norm", "L2", "--eps", "0.5", "--n", "6", "--out", str(out)]
    assert (
        main(["autoattack", "--model", str(run_folder), *data, "--attacks", "apgd-ce", "--device", "cpu"])
        == 0
    )
    assert json.loads((out / "report.json").read_text())["about"]["route"] == "adv"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--attack", "autoatack"], "pgd-STEPS"),
        (["--attack", "autoattack:best"], "'best'"),
        (["--attack", "autoattack", "steps=3"], "takes no options"),
        (["--attack", "pgd-2", "steps=3"], "--step-size"),
        (["--attack", "autoattack", "--step-size", "0.1"], "--step-size"),
        (["--attack", "autoattack", "--route", "left"], "no route 'left'"),
    ],
)
def test_evaluate_says_wrong_usage(
    run_folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run_folder), *more]) == 2
    err = capsys.readouterr().err
    assert err.startswith("robustsabn: ")
    assert err.count("\n") == 1
    assert said in err
