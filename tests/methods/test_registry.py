"""Methods in the user's own code: found, kept by that name, and what is said where they cannot be."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from torch import Tensor

from robustsabn.config import load, to_dict
from robustsabn.errors import ConfigError, InputError, TrainingError
from robustsabn.trainers import TrainConfig, load_run_config
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.methods import METHODS, Bench, Losses, Method, complete, method

FILE = """
from dataclasses import dataclass
from robustsabn.trainers.methods import Pgd, method
import nearby

@method("mine-too")
@dataclass(frozen=True)
class Mine(Pgd):
    weight: float = nearby.WEIGHT

class Bare:
    def losses(self, bench, x, y):
        return {}

@dataclass
class Empty:
    weight: float = 1.0

number = 3
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "nearby.py").write_text("WEIGHT = 2.5\n")
    (tmp_path / "own.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    before = dict(METHODS)
    yield tmp_path / "own.py"
    METHODS.clear()
    METHODS.update(before)
    for name in ("own", "_user_own", "nearby"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("spec", ["own.py:Mine", "own:Mine", "{}:Mine"])
def test_a_class_is_found_and_its_name_kept_as_given(file: Path, spec: str) -> None:
    spec, path = spec.format(file), list(sys.path)
    config = load(TrainConfig, overrides=[f"method={spec}", "method.weight=4"])
    assert to_dict(config.method) == {"weight": 4.0}
    assert to_dict(config)["method"] == {"name": spec, "weight": 4.0}
    again = load(TrainConfig, {"method": {"name": spec}}, ["label_smoothing=0.1"])
    assert to_dict(again)["method"]["weight"] == 2.5
    assert type(again.method) is type(config.method)
    assert load(TrainConfig, to_dict(again)) == again
    assert sys.path == path


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("own.py:Mien", r"own.py has no 'Mien' \(did you mean Mine\?"),
        ("own.py", "'own.py' is a file; name its class: own.py:CLASS"),
        ("none.py:Mine", "no such file: none.py; a method of your own is path/to/file.py:CLASS"),
        ("nowhere.at.all:Mine", "nowhere.at.all failed: ModuleNotFoundError"),
        ("broken.py:Mine", r"broken.py failed: ZeroDivisionError: division by zero \(broken.py, line 1\)"),
        ("own.py:Empty", "'own.py:Empty' is the class Empty, without losses; give a frozen dataclass"),
        ("own.py:number", "'own.py:number' is of type int, without losses"),
        ("own.py:Bare", r"'own.py:Bare' is Bare, which is no dataclass; put @dataclass\(frozen=True\)"),
        (
            "trade",
            r"'trade' is unknown \(did you mean trades\?\); allowed: .*, path/to/file.py:CLASS, package",
        ),
    ],
)
def test_what_cannot_be_used_is_told_in_words(file: Path, spec: str, said: str) -> None:
    (file.parent / "broken.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match=said) as caught:
        load(TrainConfig, {"method": spec})
    assert str(caught.value).startswith("method.name: ")
    assert "\n" not in str(caught.value)


def test_what_is_registered_is_checked_too(file: Path) -> None:
    with pytest.raises(ConfigError, match="method 'empty' is the class Empty, without losses"):

        @method("empty")
        class Empty:
            pass

    @method("bare")
    class Bare:
        def losses(self) -> None:
            pass

    with pytest.raises(ConfigError, match="'bare' is Bare, which is no dataclass"):
        load(TrainConfig, {"method": "bare"})
    with pytest.raises(ConfigError, match="method: Bare is no dataclass"):
        TrainConfig(method=Bare())  # type: ignore[arg-type]


Returned = Callable[[Bench, Tensor, Tensor], object]
MISTAKES: dict[str, tuple[Returned, type[Exception], str]] = {
    "no loss": (
        lambda b, x, y: {"adv_loss": logits(b, x).mean()},
        TrainingError,
        "Returns.losses returned the keys adv_loss; give a dict with `loss`",
    ),
    "no dict": (
        lambda b, x, y: logits(b, x).mean(),
        TrainingError,
        "returned Tensor; give a dict with `loss`",
    ),
    "no mean": (
        lambda b, x, y: {"loss": logits(b, x)},
        TrainingError,
        r"shape \(8, 10\) as 'loss'; give tens",
    ),
    "no tensor": (
        lambda b, x, y: {"loss": logits(b, x).mean(), "n": 8},
        TrainingError,
        "returned int as 'n'",
    ),
    "no gradient": (
        lambda b, x, y: {"loss": logits(b, x).mean().detach()},
        TrainingError,
        "a `loss` without gradient; take logits from bench.forward",
    ),
    "attack": (
        lambda b, x, y: b.attack(x[:5], y[:5]),
        InputError,
        r"given 5 of the 8 images .* as in bench.attack\(x, y\)\[rows\]",
    ),
    "classes": (lambda b, x, y: b.other_classes(y[:1]), InputError, "given 1 of the 8 images"),
}


def logits(bench: Bench, x: Tensor) -> Tensor:
    return bench.forward(x, bench.adv)


@dataclass(frozen=True)
class Returns:
    """Returns what the test says."""

    mistake: str

    def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
        return cast(Losses, MISTAKES[self.mistake][0](bench, x, y))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_method_must_not_do_is_told_in_words(tmp_path: Path, mistake: str) -> None:
    tiny = {"images": 16, "batch_size": 8, "steps": 1, "validation": {"images": 4}, "device": "cpu"}
    config = replace(
        load(TrainConfig, {**tiny, "out": str(tmp_path / "run")}), method=cast(Any, Returns(mistake))
    )
    _, error, said = MISTAKES[mistake]
    with pytest.raises(error, match=said) as caught:
        run(config, AdversarialTraining)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["other", "gone.py:Other"])
def test_the_configuration_of_a_run_is_read_without_its_method(tmp_path: Path, name: str) -> None:
    values = to_dict(load(TrainConfig, overrides=["label_smoothing=0.1", "augment.mix=cutmix"]))
    values["method"] = {"name": name, "weight": 3.0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    config = load_run_config(tmp_path)
    assert to_dict(config) == values
    assert load_run_config(tmp_path) == config
    with pytest.raises(
        ConfigError, match=f"{name!r} is not known in this process; import the module that registers it"
    ):
        config.method.losses(None, None, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"unknown|no such file"):
        load(TrainConfig, tmp_path / "config.yaml")


def test_a_misspelt_trait_is_an_error() -> None:
    @dataclass(frozen=True)
    class Careless:
        whole_batches = True

        def losses(self, bench: Bench, x: Tensor, y: Tensor) -> Losses:
            return {}

    with pytest.raises(
        ConfigError, match=r"whole_batches is not an attribute of methods \(did you mean whole_batch\?\)"
    ):
        method("careless")(Careless)


def test_a_method_without_losses_is_an_error() -> None:
    @dataclass(frozen=True)
    class Empty(Method):
        pass

    with pytest.raises(ConfigError, match="which lacks losses"):
        method("empty")(Empty)


def test_traits_that_are_not_said_have_their_defaults() -> None:
    complete(Returns, "method returns")
    assert [getattr(Returns, name) for name in ("trains", "smooths", "mixes", "whole_batch", "replays")] == [
        *(None, False, False, False),
        1,
    ]
