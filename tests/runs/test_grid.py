"""Settings with several values: what they expand to, and in which folders they are trained."""

from pathlib import Path
from typing import Any

import pytest

from robustsabn.cli import main
from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.trainers import sweep
from robustsabn.trainers.grid import points
from robustsabn.trainers.runs.folder import RunFolder
from tests.helpers.recorded_run import ended_run

RADII = "attack.eps=2/255,4/255"


def chosen(*overrides: Any) -> list[str]:
    return [point.words for point in points("digits", list(overrides))]


def test_every_combination_in_order() -> None:
    assert chosen(RADII, "epochs=3", "norm=sabn, auxbn") == [
        "attack.eps=2/255, norm=sabn",
        "attack.eps=2/255, norm=auxbn",
        "attack.eps=4/255, norm=sabn",
        "attack.eps=4/255, norm=auxbn",
    ]
    (first, *_) = points("digits", [RADII, "epochs=3"])
    assert first.overrides == ["attack.eps=2/255", "epochs=3"]
    assert first.folder == "attack.eps=2-255"
    assert chosen("method=trades,mart") == ["method=trades", "method=mart"]
    assert chosen("method=trades", "method.beta=1,6") == ["method.beta=1", "method.beta=6"]
    assert chosen({"attack.eps": [0.1, 0.2], "norm": "sabn"}) == ["attack.eps=0.1", "attack.eps=0.2"]


@pytest.mark.parametrize(
    "override",
    [
        "routes=clean,adv",
        "schedule={name: multistep, milestones: [0.5, 0.75]}",
        "data=imagefolder:pictures,size=64",
        "epochs=3",
        {"routes": ("clean", "adv")},
    ],
)
def test_a_value_that_a_key_takes_as_it_is_stays_one(override: Any) -> None:
    assert chosen(override) == [""]
    assert chosen(override, RADII) == ["attack.eps=2/255", "attack.eps=4/255"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["attack.eps=0.1,0.1"], "attack.eps has a value twice"),
        (
            [f"seed={','.join(map(str, range(99)))}", f"steps={','.join(map(str, range(1, 12)))}"],
            "seed, steps have more than 1000 combinations",
        ),
    ],
)
def test_mistakes(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        points("digits", overrides)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, bool]]:
    """Runs that take no time: the folder and `resume` of each, in the order in which they came."""
    runs: list[tuple[str, bool]] = []

    def run(config: Any, task: object, resume: bool = False) -> None:
        runs.append((config.out, resume))
        settings = "device=cpu", f"attack.eps={config.attack.eps}", f"seed={config.seed}"
        ended_run(Path(config.out), *settings)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("robustsabn.trainers.sweeps.run", run)
    return runs


def test_radii_and_seeds(begun: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "device=cpu", RADII, "seeds=0,1", "out=all"]
    assert main(words) == 0
    folders = [f"all/attack.eps={k}-255/seed-{seed}" for k in (2, 4) for seed in (0, 1)]
    assert begun == [(folder, False) for folder in folders]
    out = capsys.readouterr().out
    assert "attack.eps=2-255, seed 0 begins: all/attack.eps=2-255/seed-0" in out
    assert out.count("±") >= 2  # one row for each radius
    begun.clear()
    with pytest.raises(ConfigError, match="holds a sweep"):
        RunFolder.choose("all", "run", resume=False)
    assert main(["compare", "all"]) == 0
    assert main(["evaluate", "all"]) == 2
    assert (
        "all is a sweep; give one of its runs, such as all/attack.eps=2-255/seed-0" in capsys.readouterr().err
    )


def test_without_seeds_each_point_is_one_run(begun: list[tuple[str, bool]]) -> None:
    found = sweep("digits", ["device=cpu", RADII, "out=all"], seeds=None)
    assert [out for out, _ in begun] == ["all/attack.eps=2-255", "all/attack.eps=4-255"]
    assert len(found.groups) == 2
    with pytest.raises(CheckpointError, match=r"no run of attack\.eps=0\.5; attack\.eps=0\.6 to"):
        sweep("digits", ["device=cpu", "attack.eps=0.5,0.6", "out=all"], seeds=None, resume=True)


def test_a_wrong_value_is_told_before_the_first_run(
    begun: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", "attack.norm=Linf,L0"]) == 2
    assert "'L0'" in capsys.readouterr().err
    assert main(["train", "digits", "attack.epss=1,2"]) == 2
    assert "did you mean eps?" in capsys.readouterr().err
    assert begun == []


def test_print_config_names_the_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--print-config", RADII]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "# in turn: attack.eps=2/255; attack.eps=4/255; below is the first"
