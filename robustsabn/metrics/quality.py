"""The quality of generated images: numbers that name their extractor, counts and reference."""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Basis", "ByClass", "Quality", "Spread", "short_count"]


def short_count(n: int) -> str:
    """10000 as "10k", 1437 as "1437"."""
    return f"{n // 1000}k" if n >= 1000 and n % 1000 == 0 else str(n)


@dataclass(frozen=True)
class Spread:
    """Mean and deviation over parts of the images."""

    mean: float
    deviation: float

    def __str__(self) -> str:
        spread = f" ± {self.deviation:.2g}" if self.deviation else ""  # of one part there is none
        return f"{self.mean:.4g}{spread}"


@dataclass(frozen=True)
class Basis:
    """The basis of numbers: extractor with digest and features, image counts, reference and its split."""

    extractor: str
    digest: str
    features: int
    fake: int
    real: int
    reference: str
    split: str

    def label(self, metric: str = "fid") -> str:
        """The full name of a number, such as fid[digits-cnn-64, n=10k, ref=train]."""
        return f"{metric}[{self.extractor}, n={short_count(self.fake)}, ref={self.split}]"


@dataclass(frozen=True)
class ByClass:
    """Numbers of each class: Fréchet distance to its real images, and mean distance of features within it."""

    diversity: tuple[float, ...]
    real_diversity: tuple[float, ...]
    distances: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Judged:
    """Share of images that an independent classifier labels correctly, over all and for each class."""

    judge: str
    digest: str
    accuracy: float
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Quality:
    """The quality of `basis.fake` images against `basis.real` real ones; numbers that were not measured are
    None.

    `fid` is the Fréchet distance in the features of `basis.extractor`, and `floor` that of `floor_images`
    real images that are not in the reference. `kid` is the kernel distance, over subsets of `kid_subset`
    images."""

    basis: Basis
    fid: float | None = None
    floor: float | None = None
    floor_images: int | None = None
    kid: Spread | None = None
    kid_subset: int | None = None
    inception_score: Spread | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    classes: ByClass | None = None
    judged: Judged | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def numbers(self) -> dict[str, float]:
        """The measured numbers, one per metric; means if there are several."""
        found: dict[str, float | None] = {
            name: getattr(self, name)
            for name in ("fid", "floor", "precision", "recall", "density", "coverage")
        }
        found["kid"] = None if self.kid is None else self.kid.mean
        found["inception_score"] = None if self.inception_score is None else self.inception_score.mean
        found["class_accuracy"] = None if self.judged is None else self.judged.accuracy
        if self.classes is not None:
            found["intra_class_fid"] = _mean(self.classes.distances)
            found["diversity"] = _mean(self.classes.diversity)
            found["real_diversity"] = _mean(self.classes.real_diversity)
        return {name: value for name, value in found.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        words = (
            [f"{self.basis.label()} {self.fid:.4g}"] if self.fid is not None else [self.basis.label("images")]
        )
        if self.floor is not None:
            words.append(f"real against real {self.floor:.4g}")
        words += [
            f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in self.numbers.items()
            if name not in ("fid", "floor", "real_diversity")
        ]
        return ", ".join(words)


def _mean(values: tuple[float, ...] | None) -> float | None:
    return sum(values) / len(values) if values else None
