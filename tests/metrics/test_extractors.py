"""Where features come from: names, digests, the classifiers trained here, own code."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from robustsabn import _torchvision
from robustsabn.data import ArraySet, Data
from robustsabn.errors import MissingExtraError, ModelError
from robustsabn.metrics import BeforeHead, Reference, extractor
from robustsabn.metrics import digits as trained
from robustsabn.metrics.extractor import content_of
from robustsabn.models import build

fidelity = pytest.mark.skipif(find_spec("torch_fidelity") is None, reason="torch-fidelity is not installed")


@pytest.mark.parametrize("name", ["digits", "digits-judge"])
def test_the_digits_classifiers_know_digits_that_they_were_not_trained_on(name: str, digits: Data) -> None:
    x, y = digits.test.batch(torch.arange(len(digits.test)))
    features, logits = extractor(name)(x)
    assert logits is not None
    assert features.shape == (len(x), 64)
    assert (logits.argmax(1) == y).double().mean() > 0.96


def test_a_classifier_is_trained_once_and_the_same_each_time(tmp_path: Path, cache: Path) -> None:
    first = extractor("digits")
    with patch.object(trained, "_train", side_effect=AssertionError):
        assert extractor("digits").digest == first.digest
    state = torch.random.get_rng_state()
    with patch.dict("os.environ", {"ROBUSTSABN_CACHE": str(tmp_path)}), patch.object(trained, "EPOCHS", 1):
        short = extractor("digits")
        file = next((tmp_path / "metrics").glob("*.safetensors"))
        file.write_bytes(file.read_bytes()[:-9])  # damaged: it is trained again
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert extractor("digits").digest == short.digest != first.digest
        finally:
            torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    there = {"ROBUSTSABN_CACHE": str(tmp_path / "file")}
    with patch.dict("os.environ", there), patch.object(trained, "EPOCHS", 1):
        assert extractor("digits").name == "digits-cnn-64"


def test_the_two_classifiers_are_not_one() -> None:
    one, other = extractor("digits").network, extractor("digits-judge").network
    assert str(one) != str(other)


OWN = """
from torch import nn

class Means(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))

def make():
    return Means()
"""


def test_own_code_names_an_extractor(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    found = extractor(f"{file}:make")
    assert found.name == "own:make"
    assert found(torch.rand(4, 3, 5, 5)).features.shape == (4, 3)
    file.write_text(OWN.replace("mean", "sum"))
    assert extractor(f"{file}:make").digest != found.digest


def test_a_digest_changes_with_the_weights() -> None:
    layer = nn.Linear(4, 2)
    network = nn.Sequential(nn.Flatten(), layer)
    before = content_of(network)
    assert content_of(network) == before
    with torch.no_grad():
        layer.bias[0] += 1e-3
    assert content_of(network) != before


def test_the_features_of_a_classifier_are_those_before_its_head() -> None:
    model = build("resnet-digits", 10, 1).eval()
    features, logits = extractor(BeforeHead(model))(torch.rand(5, 1, 8, 8))
    assert features.shape == (5, 64)
    assert logits is not None
    assert torch.allclose(model.get_submodule("linear")(features), logits)
    with pytest.raises(ModelError, match="no linear layer"):
        BeforeHead(nn.Conv2d(1, 1, 1))


class Wrong(nn.Module):
    def __init__(self, given: object) -> None:
        super().__init__()
        self.given = given

    def forward(self, x: Tensor) -> object:
        return self.given


@pytest.mark.parametrize(
    ("given", "message"),
    [(torch.rand(3, 4), r"\(3, 4\)"), (torch.rand(2, 4, 4), "2, 4, 4"), ("text", "'text'"), (None, "None")],
)
def test_what_an_extractor_must_not_give(given: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        extractor(Wrong(given))(torch.rand(2, 1, 8, 8))


def test_an_extractor_that_fails_is_named() -> None:
    with pytest.raises(ModelError, match=r"extractor Linear failed on images of shape \(2, 1, 8, 8\)"):
        extractor(nn.Linear(3, 3))(torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize("spec", ["digit", "nets.py", "", 7, "inceptoin"])
def test_unknown_extractors_are_refused(spec: Any) -> None:
    with pytest.raises(ModelError, match="digits"):
        extractor(spec)


def test_missing_inception_weights_are_said(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no Inception weights at .*none\.pth; put weights-inception.*inception:FILE"
    ):
        extractor(f"inception:{tmp_path / 'none.pth'}")
    with (
        patch.object(torch.hub, "get_dir", lambda: str(tmp_path)),
        pytest.raises(ModelError, match="checkpoints"),
    ):
        extractor("inception")


@fidelity
def test_weights_that_are_not_inceptions_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other\.pth does not hold the Inception"):
        extractor(f"inception:{tmp_path / 'other.pth'}")
    torch.save(nn.Linear(1, 1), tmp_path / "code.pth")
    with pytest.raises(ModelError, match="pickled code"):
        extractor(f"inception:{tmp_path / 'code.pth'}")


@fidelity
@pytest.mark.slow
def test_inception_is_torch_fidelitys(tmp_path: Path) -> None:
    _torchvision.load()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    with patch.object(Theirs, "load_state_dict"), patch("torch.load"):
        fresh = Theirs("x", ["2048"], feature_extractor_weights_path="none")
    torch.save(fresh.state_dict(), tmp_path / "w.pth")
    found = extractor(f"inception:{tmp_path / 'w.pth'}")
    images = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8)
    features, logits = found(images.float() / 255)
    assert logits is not None
    assert logits.shape == (2, 1008)
    assert torch.equal(features, fresh(images)[0])


@pytest.mark.parametrize(
    ("package", "metric"), [("torchmetrics", "fid"), ("torch_fidelity.metric_prc", "precision")]
)
def test_an_absent_package_is_one_line_with_the_command(package: str, metric: str) -> None:
    images = torch.rand(70, 1, 8, 8)
    with (
        patch.dict(sys.modules, {package: None}),
        pytest.raises(MissingExtraError, match="pip install 'robustsabn"),
    ):
        Reference(images).measure(images, only=(metric,))


def test_features_of_real_images_are_extracted_once(tmp_path: Path) -> None:
    calls: list[int] = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return x.flatten(1)[:, :4]

    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(20) % 2
    with patch.dict("os.environ", {"ROBUSTSABN_CACHE": str(tmp_path)}):
        first = Reference(ArraySet(images, labels), Counting())
        second = Reference(ArraySet(images, labels), Counting())
        assert calls == [20]
        assert torch.equal(first.real.features, second.real.features)
        assert second.real.labels is not None
        assert torch.equal(second.real.labels, labels)
        for other in (ArraySet(images.flip(0), labels), ArraySet(images, 1 - labels)):
            Reference(other, Counting())
        assert calls == [20] * 3
        for file in (tmp_path / "metrics" / "features").iterdir():
            file.write_bytes(b"damaged")
        Reference(ArraySet(images, labels), Counting())
        assert calls == [20] * 4


def test_no_more_real_images_than_asked_for() -> None:
    images = torch.rand(300, 1, 8, 8)
    assert len(Reference(images, n=100).real) == 100
