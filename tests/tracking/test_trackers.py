"""The same numbers in the trackers of Accelerate: names, failures, and what is missing."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from accelerate import tracking
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from robustsabn.cli import main
from robustsabn.errors import ConfigError
from robustsabn.trainers import train
from robustsabn.trainers.tracking.trackers import Trackers, check_trackers, run_title
from tests.helpers.runs import TINY


class Noted(tracking.GeneralTracker):  # type: ignore[misc]
    """A tracker that notes what it gets."""

    name = "noted"
    requires_logging_directory = False
    made: "list[Noted]"

    def __init__(self, project: str, **options: Any) -> None:
        super().__init__()
        self.project, self.options = project, options
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.images: list[tuple[int, str, tuple[int, ...]]] = []
        self.finished = False
        self.made.append(self)

    @property
    def tracker(self) -> "Noted":
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        assert step is not None
        self.logged.append((step, values))

    def log_images(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        assert step is not None
        self.images += [(step, tag, image.shape) for tag, (image,) in values.items()]

    def finish(self) -> None:
        self.finished = True


class Failing(Noted):
    name = "failing"

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        raise ConnectionError("no\nroute")


class Broken(Noted):
    name = "broken"

    def start(self) -> None:
        raise RuntimeError("no key")


@pytest.fixture
def noted() -> Iterator[list[Noted]]:
    Noted.made = []
    own = {kind.name: kind for kind in (Noted, Failing, Broken)}
    with patch.dict(tracking.LOGGER_TYPE_TO_CLASS, own):
        yield Noted.made


def test_a_tracker_gets_the_tags_of_tensorboard(tmp_path: Path, noted: list[Noted]) -> None:
    out = tmp_path / "sweep" / "seed-0"
    train({**TINY, "trackers": ["noted"], "out": str(out)})
    (one,) = noted
    events = EventAccumulator(str(out), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    told: dict[str, list[tuple[int, Any]]] = {}
    for step, values in one.logged:
        for tag, value in values.items():
            told.setdefault(tag, []).append((step, pytest.approx(value)))
    assert told == scalars
    assert {tag for _, tag, _ in one.images} == set(events.Tags()["images"])
    assert {step for step, _ in one.logged} == {3, 4, 6, 8}  # where a line is logged, and validations
    assert {step for step, _, _ in one.images} == {4, 8}
    assert one.finished
    assert one.project == "robustsabn"
    assert one.settings["norm"] == "saauxbn"
    assert one.settings["attack.eps"] == 0.1
    assert one.settings["routes"] == "clean,adv"
    assert run_title(out) == "sweep/seed-0"


def test_one_that_fails_is_left_out_and_said_once(
    tmp_path: Path, noted: list[Noted], capsys: pytest.CaptureFixture[str]
) -> None:
    result = train({**TINY, "trackers": ["failing", "noted"], "out": str(tmp_path / "run")})
    assert result.steps == 8
    said = [line for line in capsys.readouterr().out.splitlines() if "failing" in line]
    assert said == ["warning: failing fails (ConnectionError: no route); the run goes on without it"]
    assert len(noted[1].logged) > 5


def test_one_that_does_not_start_ends_the_run_before_its_first_step(
    tmp_path: Path, noted: list[Noted]
) -> None:
    with pytest.raises(ConfigError, match=r"trackers: broken does not start \(RuntimeError: no key\)"):
        train({**TINY, "trackers": ["noted", "broken"], "out": str(tmp_path / "run")})
    assert noted[0].finished
    train({**TINY, "steps": 1, "out": str(tmp_path / "run")})  # the folder is free


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wandb", "trackers: wandb is not installed; pip install wandb, or leave it out"),
        ("comet_ml", "pip install comet-ml"),
        ("wandbb", "trackers: 'wandbb' is unknown (did you mean wandb?); accelerate has aim"),
        ("tensorboard", "trackers: tensorboard is written anyway"),
    ],
)
def test_what_cannot_be_used_is_said_before_the_folder_is_made(
    tmp_path: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch.object(tracking, "_available_trackers", []):
        assert main(["train", "digits", f"trackers=[{name}]", f"out={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_without_trackers_nothing_is_imported() -> None:
    with patch.dict(sys.modules, {"accelerate.tracking": None}):
        check_trackers(())
        Trackers((), Path("run"), print).start({})
