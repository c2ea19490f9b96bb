"""Real images made ready, and what is measured of others beside them."""

import json
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.data import ArraySet, Data
from robustsabn.errors import InputError
from robustsabn.metrics import Quality, Reference, distance, extractor
from robustsabn.metrics.classes import by_class
from robustsabn.metrics.features import Features

pytestmark = pytest.mark.skipif(find_spec("torchmetrics") is None, reason="torchmetrics is not installed")

QUICK = ("fid", "floor", "inception_score", "classes", "judged")


@pytest.fixture(scope="module")
def reference(digits: Data) -> Reference:
    return Reference(digits.train, held_out=digits.test, name="digits")


def distances(found: Quality) -> tuple[float, ...]:
    """The Fréchet distance of each class."""
    assert found.classes is not None
    assert found.classes.distances is not None
    return found.classes.distances


def test_every_number_is_named(reference: Reference, noisy: tuple[Tensor, Tensor]) -> None:
    found = reference.measure(*noisy, only=QUICK)
    assert str(found).startswith("fid[digits-cnn-64, n=1k, ref=train] ")
    held = json.loads(json.dumps(found.to_dict()))
    assert held["basis"] == {
        "extractor": "digits-cnn-64",
        "digest": reference.extractor.digest,
        "features": 64,
        "fake": 1000,
        "real": len(reference.real),
        "reference": "digits",
        "split": "train",
    }
    assert held["judged"]["judge"] == "digits-judge-64"
    assert held["judged"]["digest"] not in ("", reference.extractor.digest)
    assert found.basis.label("kid") == "kid[digits-cnn-64, n=1k, ref=train]"


def test_tensors_sets_and_batches_give_one_number(reference: Reference, noisy: tuple[Tensor, Tensor]) -> None:
    x, y = noisy
    whole = reference.measure(x, y, only=QUICK)
    as_in_a_file = ArraySet((x * 255).round().byte(), y)
    assert reference.measure(as_in_a_file, only=QUICK) == whole
    assert reference.measure(zip(torch.split(x, 256), torch.split(y, 256), strict=True), only=QUICK) == whole
    pieces = reference.measure(iter(torch.split(x, 300)), y, only=QUICK)  # other batches round otherwise
    assert pieces.fid == pytest.approx(whole.fid, rel=1e-5)
    assert pieces.judged == whole.judged


def test_noise_is_farther_than_other_real_images(
    reference: Reference, digits: Data, noisy: tuple[Tensor, Tensor]
) -> None:
    found, real = reference.measure(*noisy, only=QUICK), reference.measure(digits.test, only=QUICK)
    assert found.numbers["fid"] > real.numbers["fid"] == found.floor
    assert found.floor_images == len(digits.test)
    assert real.numbers["class_accuracy"] > 0.95
    assert distance(noisy[0], digits.train).fid == found.fid


def test_numbers_of_each_class(reference: Reference, digits: Data, noisy: tuple[Tensor, Tensor]) -> None:
    x, y = digits.train.batch(torch.arange(1000))
    same = reference.measure(x, y, only=("classes", "judged"))
    assert len(distances(same)) == 10
    assert max(distances(same)) < min(distances(reference.measure(*noisy, only=("classes",))))
    turned = reference.measure(
        x, (y + 1) % 10, only=("classes", "judged")
    )  # each is an image of another class
    assert turned.numbers["class_accuracy"] < 0.05
    assert turned.numbers["intra_class_fid"] > 10 * same.numbers["intra_class_fid"]


def test_images_all_alike_have_no_diversity(reference: Reference) -> None:
    labels = torch.arange(10).repeat(70)
    prototypes = torch.rand(10, 1, 8, 8)
    found = reference.measure(prototypes[labels], labels, only=("classes",))
    assert found.numbers["diversity"] == pytest.approx(0, abs=1e-4)
    assert found.numbers["real_diversity"] > 1


def test_the_spread_of_a_class_is_the_mean_over_its_pairs(reference: Reference) -> None:
    features, labels = reference.real.features.double(), reference.real.labels
    assert labels is not None
    rows = features[labels == 4][:40]
    pairs = [float((rows[i] - rows[j]).norm()) for i in range(40) for j in range(i)]
    chosen = torch.cat([torch.where(labels == k)[0][:40] for k in range(10)])
    part = Features(features[chosen], None, labels[chosen], (1, 8, 8), True)
    found, notes = by_class(part, part)
    assert found.diversity[4] == pytest.approx(sum(pairs) / len(pairs))
    assert found.distances is None
    assert "64" in notes[0]
    assert "40" in notes[0]


def test_without_held_out_images_the_floor_is_between_two_halves(noisy: tuple[Tensor, Tensor]) -> None:
    found = Reference(noisy[0]).measure(noisy[0], only=("fid", "floor"))
    assert found.floor_images == 500
    assert found.numbers["floor"] > found.numbers["fid"] == pytest.approx(0, abs=1e-6)


def test_the_judge_is_another_network_than_the_extractor(digits: Data) -> None:
    for judge in ("digits", extractor("digits")):
        with pytest.raises(InputError, match="the judge digits-cnn-64 is the extractor itself"):
            Reference(digits.train, "digits", judge=judge)


def test_without_labels_nothing_is_told_by_class(reference: Reference, noisy: tuple[Tensor, Tensor]) -> None:
    found = reference.measure(noisy[0][:200])
    assert found.classes is None
    assert found.judged is None
    assert {"fid", "floor", "kid", "inception_score", "density", "coverage"} <= set(found.numbers)
    with pytest.raises(InputError, match="there are no labels"):
        reference.measure(noisy[0], only=("judged",))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.rand(100, 1, 8, 8) * 255, None, r"values from .* to 25\d.*\[0, 1\]"),
        (torch.rand(100, 1, 8, 8) * 2 - 1, None, r"values from -.*\[0, 1\]"),
        (torch.full((100, 1, 8, 8), torch.nan), None, "values from nan to nan"),
        (torch.zeros(100, 1, 8, 8, dtype=torch.int64), None, "int64"),
        (torch.rand(100, 64), None, r"shape \(100, 64\)"),
        (torch.rand(100, 1, 16, 16), None, "8 x 8 pixels, not 16 x 16"),
        (torch.rand(100, 3, 8, 8), None, "1 channel, these have 3"),
        (torch.rand(64, 1, 8, 8), None, "more than 64 images, and there are 64"),
        (iter([]), None, "there are none"),
        ([torch.rand(8, 1, 8, 8)], None, "more than 64 images, and there are 8"),
        (torch.rand(100, 1, 8, 8), torch.arange(100) % 9, "class 9 has 0 images"),
        (torch.rand(100, 1, 8, 8), torch.arange(100) % 11, "labels from 0 to 10"),
        (torch.rand(100, 1, 8, 8), torch.arange(50), "100 images and 50 labels"),
        (torch.rand(100, 1, 8, 8), torch.rand(100), "must be integers"),
        ([(torch.rand(90, 1, 8, 8), torch.arange(90) % 10), torch.rand(90, 1, 8, 8)], None, "90 of 180"),
        (7, None, "give a tensor"),
        ([7, 8], None, "come as 7"),
    ],
)
def test_images_that_are_none_are_refused(
    reference: Reference, images: Any, labels: Tensor | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        reference.measure(images, labels, only=("fid", "classes") if labels is not None else ("fid",))


def test_unknown_metrics_are_refused(reference: Reference) -> None:
    with pytest.raises(InputError, match="did you mean fid"):
        reference.measure(torch.rand(100, 1, 8, 8), only=("fyd",))


def test_grey_images_in_colours_are_grey(reference: Reference, noisy: tuple[Tensor, Tensor]) -> None:
    x, _ = noisy
    assert reference.measure(x.expand(-1, 3, -1, -1), only=("fid",)) == reference.measure(x, only=("fid",))
