"""The keys of a learning rate over the run; `trainers/loop/updates.py` has the maths."""

from collections.abc import Mapping
from dataclasses import dataclass

from robustsabn.config.checks import check, count

__all__ = ["SCHEDULES", "Constant", "Cosine", "Cyclic", "InverseTime", "MultiStep", "OneCycle", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over `warmup_steps` steps from `warmup_start` times the learning rate.

    During it, the rate never exceeds the warm-up ramp.
    """

    warmup_steps: int = 0
    """Steps of linear warm-up."""
    warmup_start: float = 0.0
    """Where the warm-up starts, as a share of the learning rate."""

    def __post_init__(self) -> None:
        count("warmup_steps", self.warmup_steps, 0)
        check(0 <= self.warmup_start <= 1, f"warmup_start must be in [0, 1], got {self.warmup_start:g}")


@dataclass(frozen=True)
class Constant(Schedule):
    pass


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Multiply by `gamma` at each of `milestones`, which are fractions of the run."""

    milestones: tuple[float, ...] = (0.5, 0.75)
    """Fractions of the run at which the rate drops, in rising order."""
    gamma: float = 0.1
    """The factor of each drop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = all(0 < m <= 1 for m in self.milestones) and list(self.milestones) == sorted(self.milestones)
        check(valid, f"milestones are rising fractions of the run in (0, 1], got {list(self.milestones)}")
        check(0 < self.gamma <= 1, f"gamma must be in (0, 1], got {self.gamma:g}")


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine, from the learning rate down to `final` times it."""

    final: float = 0.0
    """Where the cosine ends, as a share of the learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.final <= 1, f"final must be in [0, 1], got {self.final:g}")


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Cosine up from `start` times the learning rate to 1 at the fraction `peak`, then down to `final`."""

    peak: float = 0.3
    """The fraction of the run at which the rate is highest."""
    start: float = 0.04
    """Where the rate starts, as a share of the learning rate."""
    final: float = 4e-6
    """Where the rate ends, as a share of the learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.peak < 1, f"peak must be in (0, 1), got {self.peak:g}")
        check(0 <= self.start <= 1, f"start must be in [0, 1], got {self.start:g}")
        check(0 <= self.final <= 1, f"final must be in [0, 1], got {self.final:g}")


@dataclass(frozen=True)
class Cyclic(Schedule):
    """A triangle: linear from 0 up to the fraction `peak` of the run, then down to 0.

    Wong et al., ICLR 2020.
    """

    peak: float = 0.5
    """The fraction of the run at which the rate is highest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.peak < 1, f"peak must be in (0, 1), got {self.peak:g}")


@dataclass(frozen=True)
class InverseTime(Schedule):
    """Divided by `1 + decay t` at step t, whatever the length of the run.

    Huang and Belongie, ICCV 2017 (AdaIN).
    """

    decay: float = 5e-5
    """How fast the rate falls, per step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.decay >= 0, f"decay must be at least 0, got {self.decay:g}")


SCHEDULES: Mapping[str, type[Schedule]] = {
    "constant": Constant,
    "multistep": MultiStep,
    "cosine": Cosine,
    "one-cycle": OneCycle,
    "cyclic": Cyclic,
    "inverse-time": InverseTime,
}
