"""Real images made ready, and what is measured of others beside them."""

import json
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from robustsabn.data import ArraySet, Data
from robustsabn.metrics import Reference, distance, extractor

pytestmark = pytest.mark.skipif(find_spec("torchmetrics") is None, reason="torchmetrics is not installed")


@pytest.fixture(scope="module")
def reference(digits: Data) -> Reference:
    return Reference(digits.train, held_out=digits.test, name="digits")


def frechet(a: Tensor, b: Tensor) -> float:
    """The slow formula in float64: the square root by eigenvectors of the symmetric form S1^(1/2) S2 S1^(1/2)."""
    a, b = a.double(), b.double()
    s1, s2 = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(s1)
    root = vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T
    middle = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * middle)


def test_the_distance_is_the_formula_on_the_extractors_features(
    reference: Reference, digits: Data, noisy: tuple[Tensor, Tensor]
) -> None:
    network = extractor("digits").network
    x, y = noisy
    eight_bit = (x * 255).round() / 255
    real, _ = digits.train.batch(torch.arange(len(digits.train)))
    with torch.no_grad():
        expected = frechet(network(eight_bit)[0], network(real)[0])
    found = reference.measure(x, y, only=("fid",))
    assert found.fid == pytest.approx(expected, rel=1e-6)
    assert distance(x, digits.train).fid == pytest.approx(expected, rel=1e-6)


def test_every_number_is_named(reference: Reference, noisy: tuple[Tensor, Tensor]) -> None:
    found = reference.measure(*noisy)
    assert str(found).startswith("fid[digits-cnn-64, n=1k, ref=train] ")
    held = json.loads(json.dumps(found.to_dict()))
    assert held["basis"] == {
        "extractor": "digits-cnn-64",
        "digest": reference.extractor.digest,
        "features": 64,
        "fake": 1000,
        "real": 1085,
        "reference": "digits",
        "split": "train",
    }
    assert held["judged"]["judge"] == "digits-judge-64"
    assert held["judged"]["digest"] != reference.extractor.digest


def test_tensors_sets_and_batches_give_one_number(reference: Reference, noisy: tuple[Tensor, Tensor]) -> None:
    x, y = noisy
    x8 = (x * 255).round().byte()
    whole = reference.measure(x, y)
    assert reference.measure(ArraySet(x8, y)) == whole  # as a file would hold it
    assert reference.measure(zip(x.split(100), y.split(100), strict=True)) == whole
    assert reference.measure(iter(x.split(300)), y) == whole


def test_noise_is_farther_than_other_real_images(
    reference: Reference, digits: Data, noisy: tuple[Tensor, Tensor]
) -> None:
    found, real = reference.measure(*noisy), reference.measure(digits.test)
    assert found.fid > real.fid == found.floor
    assert found.floor_images == len(digits.test)
    assert real.judged.accuracy > 0.95
    assert real.kid.mean < found.kid.mean


def test_without_labels_nothing_is_told_by_class(reference: Reference, noisy: tuple[Tensor, Tensor]) -> None:
    found = reference.measure(noisy[0])
    assert found.classes is None
    assert found.judged is None
    assert set(found.numbers) == {"fid", "floor", "kid", "inception_score"}
