"""Real images made ready to be compared with, again and again."""

from collections.abc import Collection
from functools import cached_property

from torch import Tensor, nn

from robustsabn.arguments import a_whole_number
from robustsabn.data.sets import Device, ImageSet, permutation
from robustsabn.errors import InputError
from robustsabn.metrics.classes import by_class, judged
from robustsabn.metrics.extractor import Extractor
from robustsabn.metrics.features import Features, extract, extract_cached
from robustsabn.metrics.images import Images
from robustsabn.metrics.named import extractor as named
from robustsabn.metrics.quality import Basis, Quality
from robustsabn.metrics.scores import Frechet, inception_score, kernel_distance
from robustsabn.text import nearest, quote

__all__ = ["METRICS", "Reference", "distance"]

METRICS = ("fid", "floor", "kid", "inception_score", "classes", "judged")
"""What can be measured."""

MOST = 50_000


class Reference:
    """The features of real images; `measure` compares other images with them.

    real: a tensor (N, C, H, W) with `labels`, or a set of `robustsabn.data`; at most `n` of it, drawn by seed 0, 50,000 by
    default. extractor, judge: as for `robustsabn.metrics.extractor`; the judge is a classifier independent of the extractor,
    for the digits the second one by default. held_out: other real images, whose distance is the floor; without them the
    floor is the distance of two halves of `real`. name, split: what the numbers call the real images.

    Features are taken on `device`, `batch_size` images at a time, and kept in the user's cache folder.
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
        if judge is None and extractor == "digits":
            judge = "digits-judge"
        self.extractor = named(extractor)
        self.judge = None if judge is None else named(judge)
        self.name, self.split, self.held_out = name, split, held_out
        self.options = {"device": device, "batch_size": batch_size, "progress": progress}
        most = MOST if n is None else a_whole_number("n", n, InputError)
        if len(real) > most:
            chosen = permutation(len(real), 0)[:most]
            if isinstance(real, Tensor):
                real, labels = real[chosen], None if labels is None else labels[chosen]
            else:
                real = real.take(chosen)
        self.real = extract_cached(real, labels, self.extractor, what="the real images", **self.options)
        self.frechet = Frechet(self.real.features, "the real images")

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

        labels: the classes (N,) that images were made for, where a set or batches do not bring them; without labels nothing
        is told by class. only: some of `METRICS`, all that can be told by default. seed: of random subsets. Raises InputError
        for images that are no images, for another shape than the real ones, for a class without images, and for fewer
        images than features.
        """
        wanted = _wanted(only)
        judge = [self.judge] if self.judge is not None and "judged" in wanted else []
        found = extract(images, labels, [self.extractor, *judge], what=what, **self.options)  # type: ignore[arg-type]
        fake = found[0]
        if fake.shape != self.real.shape:
            raise InputError(
                f"{what} are (C, H, W) {fake.shape}, the real images {self.real.shape}; make them alike: how images are "
                "resized changes every number"
            )
        notes: list[str] = []
        classes = None
        if "classes" in wanted and fake.labels is not None and self.real.labels is not None:
            classes, notes = by_class(fake, self.real)
        floor, floor_images = self.floor if "floor" in wanted else (None, None)
        kid, subset = (
            kernel_distance(fake.features, self.real.features, seed) if "kid" in wanted else (None, None)
        )
        return Quality(
            self._basis(fake),
            fid=self.frechet(fake.features, what) if "fid" in wanted else None,
            floor=floor,
            floor_images=floor_images,
            kid=kid,
            kid_subset=subset,
            inception_score=(
                inception_score(fake.logits, seed)
                if "inception_score" in wanted and fake.logits is not None
                else None
            ),
            classes=classes,
            judged=judged(found[1], judge[0]) if judge and found[1].labels is not None else None,
            notes=tuple(notes),
        )

    @cached_property
    def floor(self) -> tuple[float | None, int | None]:
        """The Fréchet distance of real images to real images, and of how many; None where there are too few."""
        width = self.real.features.shape[1]
        if self.held_out is not None:
            if len(self.held_out) <= width:
                return None, None
            other = extract_cached(
                self.held_out, None, self.extractor, what="the real images held out", **self.options
            )
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
    """The Fréchet distance of `fake` to `real` images, named: `print` shows fid[EXTRACTOR, n=N, ref=SPLIT] and the number.

    See `Reference` for the arguments and errors, and for everything else that can be measured.
    """
    return Reference(real, extractor, split=split).measure(fake, only=("fid",))


def _wanted(only: Collection[str] | None) -> Collection[str]:
    for name in only or ():
        if name not in METRICS:
            raise InputError(
                f"no metric {quote(name)}{nearest(name, METRICS)}; allowed: {', '.join(METRICS)}"
            )
    return METRICS if only is None else only
