"""Networks and data given as objects: one loop, exact resume, and what must be given again is named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from robustsabn.__main__ import main
from robustsabn.config import given
from robustsabn.data import load
from robustsabn.errors import CheckpointError, ConfigError, ModelError
from robustsabn.trainers import evaluate_run, load_run_config, load_run_model, train
from tests.helpers.network import make
from tests.helpers.runs import TINY, die, same

SETTINGS = {key: value for key, value in TINY.items() if key not in ("model", "images", "batch_size")}
DIGITS = load("digits")


class Shifted(Dataset[Any]):
    """Digits through a random transform."""

    def __init__(self, n: int, random: bool = True) -> None:
        self.x, self.y = DIGITS.train.batch(torch.arange(n))
        self.random = random

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.x[i] * (torch.rand(()) if self.random else 1), int(self.y[i])


def net(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3),
        nn.BatchNorm2d(width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


def data(workers: int = 0) -> dict[str, Any]:
    train_set = DataLoader(Shifted(120), batch_size=8, shuffle=True, num_workers=workers)
    return {"train": train_set, "validation": Shifted(60, False), "test": Shifted(60, False)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    folder, network = tmp_path_factory.mktemp("given") / "run", net()
    train(model=network, data=data(), out=str(folder), steps=6, overrides={"attack.eps": 0.1}, **SETTINGS)
    return folder, network


def test_the_given_network_is_copied(trained: tuple[Path, nn.Module]) -> None:
    folder, network = trained
    for name, value in net().state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    assert load_run_model(folder)[0].weight.shape == (4, 1, 3, 3)  # type: ignore[index]


def test_the_configuration_names_the_objects(trained: tuple[Path, nn.Module]) -> None:
    config = load_run_config(trained[0])
    assert config.model.startswith("object:Sequential-")
    assert config.data.startswith("object:Shifted-")
    assert (config.batch_size, config.attack.eps) == (8, 0.1)  # of the loader, and of the override


def test_a_killed_run_resumes_to_the_bit_when_both_are_given_again(
    trained: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "killed"
    config = {**SETTINGS, "attack": {**TINY["attack"], "eps": 0.1}, "steps": 6, "out": str(folder)}
    from robustsabn.trainers.given import named

    die(named({**config, "model": net(), "data": data()}), 4)
    monkeypatch.setattr(given, "_KNOWN", {})  # as in another process
    again = folder / "config.yaml"
    with pytest.raises(ConfigError, match=r"model \(Sequential-\w+\), data \(Shifted-\w+\); give them again"):
        train(again, resume=True)
    with pytest.raises(ConfigError, match="resume it with its own configuration"):
        train(again, model=net(5), data=data(), resume=True)
    train(again, model=net(), data=data(workers=2), resume=True)
    same(folder, trained[0])


def test_commands_say_what_they_cannot_build(
    trained: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(given, "_KNOWN", {})
    folder, network = trained
    assert main(["evaluate", str(folder)]) == 2
    assert "is an object that was given in Python" in capsys.readouterr().err
    assert main(["train", str(folder / "config.yaml"), "--resume"]) == 2
    assert "robustsabn.train(" in capsys.readouterr().err
    with pytest.raises(ModelError, match="give it again"):
        load_run_model(folder)
    with pytest.raises(CheckpointError, match="give one of the same layers"):
        load_run_model(folder, network=net(5))
    measured = evaluate_run(folder, network=network, data=data(), n=20, attack="pgd-1")
    assert 0 <= measured.clean_accuracy <= 1


def test_the_same_recipe_by_name_and_by_object_is_the_same_run(tmp_path: Path) -> None:
    """A network that a function builds from the run's seed, and the same one given: the same weights."""
    from robustsabn.trainers.loop.draws import derive

    config = {**TINY, "steps": 3}
    by_name = train(config, out=str(tmp_path / "name"))
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(0, "model"))
        network = make(num_classes=10, in_channels=1)
    by_object = train(config, {"model": network}, out=str(tmp_path / "object"))
    one, other = (load_run_model(result.folder, "last").state_dict() for result in (by_name, by_object))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert by_name.evaluation.to_dict() == by_object.evaluation.to_dict()


def test_overrides_are_text_mappings_or_keywords(tmp_path: Path) -> None:
    from robustsabn.trainers.tasks import load_config, start_from

    def loaded(overrides: Any = (), **settings: Any) -> Any:
        return load_config(*start_from({}, overrides, settings))

    one = loaded(["attack.eps=4/255", "epochs=5"])
    assert loaded({"attack.eps": 4 / 255, "epochs": 5}) == one
    assert loaded({"attack": {"eps": "4/255"}}, epochs=5) == one
    assert loaded([{"attack.eps": 1}, "attack.eps=4/255"], epochs=5) == one
    for wrong in ("epochs=5", 3):
        with pytest.raises(ConfigError, match=r"give \{'attack.eps': 8 / 255\}"):
            loaded(wrong)
    with pytest.raises(ConfigError, match="did you mean epochs"):
        loaded(epohcs=3)
    with pytest.raises(ConfigError, match=r"give a torch.nn.Module, or text such as net.py:FUNCTION"):
        loaded(model=3)
