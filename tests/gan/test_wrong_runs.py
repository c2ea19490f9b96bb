"""Unusable data and checkpoints of a GAN are refused in one line; a NaN loss keeps its batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from robustsabn.errors import ConfigError, DataError, InputError, ModelError, RobustsabnError, TrainingError
from robustsabn.trainers import load_run_model, train
from robustsabn.trainers.gan.task import GanTraining
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.pages import write_run_page
from robustsabn.trainers.tasks import load_config
from tests.helpers.gan_case import MakeNpz, tiny

OWN = """
import torch
from torch import nn
from robustsabn.models.gan import build

class Loud(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.latent_dim = inner, inner.latent_dim
    def forward(self, z):
        return 3 * self.inner(z)

def pair(num_classes, norm, **options):
    return build("digits", num_classes, norm, image_channels=1)

def loud(num_classes, norm):
    generator, discriminator = pair(num_classes, norm)
    return Loud(generator), discriminator

class Blind(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
    def forward(self, x):
        return 0 * self.inner(x)

def blind(num_classes, norm):
    generator, discriminator = pair(num_classes, norm)
    return generator, Blind(discriminator)

def plain(num_classes, norm):
    return nn.Linear(3, 3), nn.Linear(3, 3)

def fewer(num_classes, norm):
    return pair(num_classes - 1, norm)

def features():
    return nn.Flatten()

def single(num_classes, norm):
    return pair(num_classes, norm)[0]
"""


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "sngan-33"}, ConfigError, r"model: 'sngan-33' is no GAN \(did you mean sngan-32\?\)"),
        ({"model": "sngan-32"}, ConfigError, r"\(1, 32, 32\), the data has \(1, 8, 8\)"),
        ({"model_options": {"widht": 4}}, ConfigError, r"model_options: 'widht' .* \(did you mean width\?\)"),
        ({"model_options": {"width": 0}}, ModelError, "width is 0"),
        ({"model": "own.py:loud", "model_options": {}}, ModelError, r"must be in \[-1, 1\]"),
        ({"model": "own.py:plain", "model_options": {}}, ModelError, "the generator has no routed layers"),
        ({"model": "own.py:fewer", "model_options": {}}, ModelError, "has 9 routes, the data 10 classes"),
        ({"model": "own.py:single", "model_options": {}}, ModelError, "give a pair"),
        ({"loss": "hinged"}, ConfigError, "loss"),
        ({"loss": "wasserstein-gp", "compile": True}, ConfigError, "compile"),
        ({"d_steps": 0}, ConfigError, "d_steps"),
        ({"augment": {"cutout": 1.5}}, ConfigError, "cutout"),
        ({"batch_size": 65}, ConfigError, "batch_size 65 is larger"),
        ({"extractor": "gone.py:features"}, ModelError, "gone.py"),
        ({"validation": {"images": 4}}, ConfigError, "validation.images is 4; .* needs more than 4 images"),
        ({"test": {"images": 3}}, ConfigError, "test.images is 3"),
        ({"extractor": "digits"}, InputError, "the training images: .* than 64 images, and there are 64"),
        ({"judge": "own.py:features"}, InputError, "the judge own:features gives no logits"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    with pytest.raises(error, match=words) as refused:
        train(tiny("run", **changes))
    assert "\n" not in str(refused.value)
    assert not Path("run").exists()


def test_a_pair_of_one_s_own_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    assert train(tiny("run", model="own.py:pair", model_options={}, steps=1)).steps == 1


@pytest.mark.parametrize("network", ["pair", "blind"])
def test_the_page_names_a_discriminator_that_tells_nothing_apart(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    train(tiny("run", model=f"own.py:{network}", model_options={}, steps=2))
    said = "The discriminator tells no images apart." in write_run_page("run").read_text()
    assert said == (network == "blind")


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        ([0] * 40, 3, r"all 40 training labels are 0 \(0\); .* a level too high"),
        ([0] * 40, 1, "one class"),
        ([0, 1, 5] * 20, 3, "label 5"),
    ],
)
def test_labels_that_teach_no_classes_are_refused(
    tmp_path: Path, npz: MakeNpz, labels: list[int], classes: int, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        train(tiny(tmp_path / "run", data=npz(labels, classes), images=None))


def test_a_judge_needs_an_extractor(tmp_path: Path, npz: MakeNpz) -> None:
    with pytest.raises(ConfigError, match="give extractor= too"):
        train(tiny(tmp_path / "run", data=npz([0, 1] * 32, 2), images=None, extractor=None))


def test_another_number_of_classes_does_not_resume_the_run(tmp_path: Path, npz: MakeNpz) -> None:
    first = tiny(tmp_path / "run", data=npz([0, 1, 2] * 20, 3), images=None, steps=2)
    train(first)
    with pytest.raises(DataError, match=r"has the classes 0, 1, 2, 3, the run in .* was trained on 0, 1, 2"):
        train({**first, "data": npz([0, 1, 2, 3] * 20, 4), "steps": 4}, resume=True)


def test_a_loss_that_is_nan_stops_with_its_batches_kept(tmp_path: Path) -> None:
    class Broken(GanTraining):
        def step(self, step: int) -> dict[str, Tensor]:
            found = super().step(step)
            return {**found, "loss": found["loss"] * torch.nan} if step == 2 else found

    config: Any = load_config(tiny(tmp_path / "run", d_steps=2, epochs=4))
    with pytest.raises(TrainingError, match=r"step 3.*lower generator\.lr or discriminator\.lr"):
        run(config, Broken)
    kept = load_file(tmp_path / "run" / "batch-of-step-3.safetensors")
    assert kept["images"].shape == (32, 1, 8, 8)
    assert kept["labels"].shape == kept["places"].shape == (32,)


def test_a_gan_is_no_classifier(tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", steps=1))
    with pytest.raises(RobustsabnError, match="task"):
        load_run_model(tmp_path / "run")
