"""Features of real images, prepared for many comparisons."""

from collections.abc import Collection
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from robustsabn.arguments import a_whole_number
from robustsabn.data.sets import Device, ImageSet, permutation
from robustsabn.errors import InputError
from robustsabn.metrics.classes import by_class, judged
from robustsabn.metrics.extractor import Extractor
from robustsabn.metrics.features import Extraction, Features, extract, extract_cached
from robustsabn.metrics.images import Images, count
from robustsabn.metrics.named import extractor as named
from robustsabn.metrics.neighbours import density_coverage, precision_recall
from robustsabn.metrics.quality import Basis, Quality
from robustsabn.metrics.scores import Frechet, enough, inception_score, kernel_distance, require_torchmetrics
from robustsabn.text import nearest, quote

__all__ = ["METRICS", "Reference", "check_metrics", "distance"]

METRICS = ("fid", "floor", "kid", "inception_score", "precision", "density", "classes", "judged")
"""What can be measured: "precision" is precision and recall, "density" density and coverage."""

MOST = 50_000


class Reference:
    """The features of real images; `measure` compares other images with them.

    - real: a tensor (N, C, H, W) with `labels`, or a set of `robustsabn.data`; at most `n` images of it,
      drawn by seed 0 (50,000 by default).
    - extractor, judge: as for `robustsabn.metrics.extractor`. The judge is a classifier independent of the
      extractor; for the digits it is the second classifier by default.
    - held_out: other real images, whose distance is the floor. Without them the floor is that of two halves
      of `real`.
    - name, split: names of the real images in the numbers.

    Features are computed on `device`, `batch_size` images at a time, and kept in the user's cache folder.
    Raises MissingExtraError without torchmetrics, and InputError for a judge that is the extractor.
    """

    def __init__(
        self,
        real: Tensor | ImageSet,
        extractor: str | nn.Module | Extractor = "digits",
        *,
        labels: Tensor | None = None,
        judge: str | nn.Module | Extractor | None = None,
        held_out: Tensor | ImageSet | None = None,
        name: str = "real images",
        split: str = "train",
        n: int | None = None,
        device: Device = "cpu",
        batch_size: int = 256,
        progress: bool = False,
    ) -> None:
        require_torchmetrics()  # now, and not after an hour of training
        if judge is None and extractor == "digits":
            judge = "digits-judge"
        self.extractor = named(extractor)
        self.judge = None if judge is None else named(judge)
        if self.judge is not None and self.judge.digest == self.extractor.digest:
            raise InputError(
                f"the judge {self.judge.name} is the extractor itself; give a classifier that was trained "
                "apart from it, or no judge"
            )
        self.name, self.split, self.held_out = name, split, held_out
        self.way = Extraction(device, batch_size, progress)
        most = MOST if n is None else a_whole_number("n", n, InputError)
        if len(real) > most:
            chosen = permutation(len(real), 0)[:most]
            if isinstance(real, Tensor):
                real, labels = real[chosen], None if labels is None else labels[chosen]
            else:
                real = real.take(chosen)
        self.real = extract_cached(real, labels, self.extractor, "the real images", self.way)

    def measure(
        self,
        images: Images,
        labels: Tensor | None = None,
        *,
        only: Collection[str] | None = None,
        seed: int = 0,
        what: str = "the images",
    ) -> Quality:
        """The quality of `images` (N, C, H, W), uint8 or floats in [0, 1], or of batches of them.

        - labels: the classes (N,) of the images, if a set or batches do not have them; without labels there
          are no numbers of classes.
        - only: some of `METRICS`; by default all that can be measured.
        - seed: that of random subsets.

        Raises InputError for input that is no image, for another shape than that of the real images, for a
        class without images, and for fewer images than features."""
        wanted = check_metrics(only)
        judge = [self.judge] if self.judge is not None and "judged" in wanted else []
        if "fid" in wanted and (n := count(images)) is not None:
            enough(n, self.width, what)
        found = extract(images, labels, [self.extractor, *judge], what, self.way)
        fake, real = found[0], self.real
        self._check(fake, what)
        if only is not None and fake.labels is None and {"classes", "judged"} & set(only):
            raise InputError(f"{what}: there are no labels; classes and judged need them")
        told: dict[str, Any] = {"notes": ()}
        if "fid" in wanted:
            told["fid"] = self.frechet(fake.features, what)
        if "floor" in wanted:
            told["floor"], told["floor_images"] = self.floor
        if "kid" in wanted:
            told["kid"], told["kid_subset"] = kernel_distance(fake.features, real.features, seed)
        if "inception_score" in wanted and fake.logits is not None:
            told["inception_score"] = inception_score(fake.logits, seed)
        if "precision" in wanted and (only is not None or find_spec("torch_fidelity")):
            told["precision"], told["recall"] = precision_recall(fake.features, real.features)
        elif "precision" in wanted:
            told["notes"] += ("precision and recall need torch-fidelity: pip install 'robustsabn[fidelity]'",)
        if "density" in wanted:
            told["density"], told["coverage"] = density_coverage(fake.features, real.features)
        if "classes" in wanted and fake.labels is not None and real.labels is not None:
            told["classes"], notes = by_class(fake, real, what)
            told["notes"] += tuple(notes)
        if judge and found[1].labels is not None:
            told["judged"] = judged(found[1], judge[0])
        return Quality(self._basis(fake), **told)

    def _check(self, fake: Features, what: str) -> None:
        """Raise InputError for another shape than that of the real images, unless both are grey."""
        ours, theirs = fake.shape, self.real.shape
        alike = self.extractor.channels is not None and fake.grey and self.real.grey
        if ours[1:] != theirs[1:] or (ours[0] != theirs[0] and not alike):
            raise InputError(
                f"{what} are (C, H, W) {ours}, the real images {theirs}; make them alike: channels and the "
                "way of resizing change every number"
            )

    @property
    def width(self) -> int:
        """Number of features; a Fréchet distance needs more images than this."""
        return self.real.features.shape[1]

    @cached_property
    def frechet(self) -> Frechet:
        """The Fréchet distance to the real images."""
        return Frechet(self.real.features, "the real images")

    @cached_property
    def floor(self) -> tuple[float | None, int | None]:
        """The Fréchet distance between real images, and their number; None if there are too few."""
        width = self.width
        if self.held_out is not None:
            if len(self.held_out) <= width:
                return None, None
            other = extract_cached(self.held_out, None, self.extractor, "real images held out", self.way)
            return self.frechet(other.features), len(other)
        half = len(self.real) // 2
        if half <= width:
            return None, None
        order = permutation(len(self.real), 0)
        features = self.real.features[order]
        return Frechet(features[:half])(features[half : 2 * half]), half

    def _basis(self, fake: Features) -> Basis:
        return Basis(
            self.extractor.name,
            self.extractor.digest,
            fake.features.shape[1],
            len(fake),
            len(self.real),
            self.name,
            self.split,
        )


def distance(
    fake: Images,
    real: Tensor | ImageSet,
    extractor: str | nn.Module | Extractor = "digits",
    *,
    split: str = "real",
) -> Quality:
    """The Fréchet distance of `fake` to `real` images; `print` shows fid[EXTRACTOR, n=N, ref=SPLIT] and the
    number.

    For arguments, errors and other metrics see `Reference`.
    """
    return Reference(real, extractor, split=split).measure(fake, only=("fid",))


def check_metrics(only: Collection[str] | None) -> Collection[str]:
    """The metrics to measure, all for None. Raises InputError for an unknown one."""
    for name in only or ():
        if name not in METRICS:
            raise InputError(
                f"no metric {quote(name)}{nearest(name, METRICS)}; allowed: {', '.join(METRICS)}"
            )
    return METRICS if only is None else only
