"""Our numbers equal those of torchmetrics and torch-fidelity with the same extractor and images."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import _torchvision
from robustsabn.metrics import Extractor, Reference
from robustsabn.metrics.neighbours import density_coverage
from robustsabn.metrics.scores import Frechet, inception_score, kernel_distance

pytestmark = pytest.mark.skipif(find_spec("torchmetrics") is None, reason="torchmetrics is not installed")
fidelity = pytest.mark.skipif(find_spec("torch_fidelity") is None, reason="torch-fidelity is not installed")
quiet = pytest.mark.filterwarnings("ignore:Metric `:UserWarning")  # torchmetrics' advice on memory


class Small(nn.Module):
    """Images (N, 3, 8, 8) in [0, 1] to 16 features and 5 logits."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 4, 4)
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.conv(x).relu().mean((2, 3))
        return features, 20 * self.linear(features)


class Part(nn.Module):
    """One output of `network` for bytes, as torchmetrics wants it."""

    def __init__(self, network: nn.Module, which: int) -> None:
        super().__init__()
        self.network, self.which, self.num_features = network, which, 16

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = self.network(x.float() / 255)[self.which]
        return found.double() if self.which else found


@pytest.fixture(scope="module")
def case() -> tuple[Extractor, Tensor, Tensor]:
    """An extractor, 120 bytes images, and 90 others that are brighter."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = Small().eval()
    a, b = (torch.randint(0, 200, (n, 3, 8, 8), generator=generator, dtype=torch.uint8) for n in (120, 90))
    return Extractor("small", network, "0"), a, b + 55


def features(case: tuple[Extractor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of both sets, and the logits of the second."""
    extractor, a, b = case
    found, logits = extractor(b.float() / 255)
    assert logits is not None
    return extractor(a.float() / 255).features, found, logits


def slow_frechet(a: Tensor, b: Tensor) -> float:
    """In float64, the square root by eigenvectors of the symmetric form S1^(1/2) S2 S1^(1/2)."""
    a, b = a.double(), b.double()
    s1, s2 = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(s1)
    root = vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T
    middle = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * middle)


def slow_kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased estimate, one pair after the other."""
    a, b = a.double(), b.double()
    m, n = len(a), len(b)

    def kernel(x: Tensor, y: Tensor) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    own = sum(kernel(a[i], a[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    others = sum(kernel(b[i], b[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return own + others - 2 * sum(kernel(x, y) for x in a for y in b) / (m * n)


def test_the_formulas_are_the_slow_ones(case: tuple[Extractor, Tensor, Tensor]) -> None:
    real, fake, logits = features(case)
    assert Frechet(real)(fake) == pytest.approx(slow_frechet(real, fake), rel=1e-6)
    kid, size = kernel_distance(fake[:30], real[:30])
    assert size == 30
    # float32 sums of kernels near 1, of which the distance is the difference
    assert kid.mean == pytest.approx(slow_kernel_distance(fake[:30], real[:30]), abs=1e-5)
    p = logits.double().softmax(1)
    divergence = (p * (p / p.mean(0)).log()).sum(1).mean()
    assert inception_score(logits, splits=1).mean == pytest.approx(float(divergence.exp()), rel=1e-9)


@quiet
def test_torchmetrics_gives_our_numbers(case: tuple[Extractor, Tensor, Tensor]) -> None:
    extractor, real, fake = case
    _torchvision.load()
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    ours = Reference(real, extractor).measure(fake, only=("fid", "kid", "inception_score"), seed=3)
    fid = FrechetInceptionDistance(Part(extractor.network, 0))
    kid = KernelInceptionDistance(Part(extractor.network, 0), subset_size=90)
    for metric in (fid, kid):
        for batch in torch.split(real, 32):
            metric.update(batch, real=True)
        for batch in torch.split(fake, 32):
            metric.update(batch, real=False)
    score = InceptionScore(Part(extractor.network, 1))
    score.update(fake)
    assert ours.fid == pytest.approx(float(fid.compute()), rel=1e-5)  # float32 at its end
    assert ours.kid is not None
    assert ours.inception_score is not None
    torch.manual_seed(3)
    assert (ours.kid.mean, ours.kid.deviation) == pytest.approx([float(v) for v in kid.compute()], rel=1e-3)
    torch.manual_seed(3)
    expected = [float(v) for v in score.compute()]
    assert (ours.inception_score.mean, ours.inception_score.deviation) == pytest.approx(expected, rel=1e-6)


@fidelity
def test_torch_fidelity_gives_our_numbers(case: tuple[Extractor, Tensor, Tensor]) -> None:
    extractor, real, fake = case
    _torchvision.load()
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Registered(FeatureExtractorBase):  # type: ignore[misc, unused-ignore]
        def __init__(self, name: str, features_list: list[str], **kwargs: Any) -> None:
            super().__init__(name, features_list)
            self.network = extractor.network

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, input: Tensor) -> tuple[Tensor, ...]:
            with torch.no_grad():
                found = dict(zip(("features", "logits"), self.network(input.float() / 255), strict=True))
            return tuple(found[name] for name in self.features_list)

    class Bytes(torch.utils.data.Dataset[Tensor]):
        def __init__(self, images: Tensor) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, i: int) -> Tensor:
            return self.images[i]

    torch_fidelity.register_feature_extractor("small-for-tests", Registered)
    real = real[:90]  # with subsets of all images nothing is drawn
    theirs = torch_fidelity.calculate_metrics(
        input1=Bytes(fake),
        input2=Bytes(real),
        feature_extractor="small-for-tests",
        **dict.fromkeys(("fid", "kid", "isc", "prc"), True),
        kid_subsets=1,
        kid_subset_size=90,
        isc_splits=1,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    ours = Reference(real, extractor).measure(fake, only=("fid", "kid", "precision"))
    # torch-fidelity sums float32 features of images in numpy
    assert ours.fid == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours.numbers["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-5)
    assert (ours.precision, ours.recall) == (theirs["precision"], theirs["recall"])
    _, _, logits = features(case)
    score = inception_score(logits, splits=1).mean
    assert score == pytest.approx(theirs["inception_score_mean"], rel=1e-6)


def test_density_and_coverage_are_the_slow_ones(case: tuple[Extractor, Tensor, Tensor]) -> None:
    real, fake, _ = features(case)
    fake = torch.cat([fake, real[:5] + 1e-4])
    distances = [[float((a - b).norm()) for b in real] for a in real]
    radii = [sorted(row)[5] for row in distances]
    inside = [[float((f - r).norm()) < radius for f in fake] for r, radius in zip(real, radii, strict=True)]
    density, coverage = density_coverage(fake, real)
    assert density == pytest.approx(sum(map(sum, inside)) / (5 * len(fake)))
    assert coverage == pytest.approx(sum(map(any, inside)) / len(real))
    assert 0 < coverage < 1


def test_real_images_against_themselves_lie_on_the_manifold(case: tuple[Extractor, Tensor, Tensor]) -> None:
    real, _, _ = features(case)
    assert density_coverage(real, real)[1] == 1
    assert Frechet(real)(real) == pytest.approx(0, abs=1e-8)
