"""Square, the score-based random search attack."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustsabn.attacks import rng
from robustsabn.attacks.counts import positive, seed_of
from robustsabn.attacks.habits import answers
from robustsabn.attacks.losses import margin
from robustsabn.attacks.model.counted import CountedModel, mistaken
from robustsabn.attacks.model.inputs import check_threat, usable
from robustsabn.attacks.projections import project_l1, sample_norm
from robustsabn.attacks.search.base import ATTACKS, Points, Search, State, choose, per_row, update
from robustsabn.attacks.search.square_patterns import PHASES, pattern_table, sides
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError

__all__ = ["Square"]


@dataclass(kw_only=True)
class SquareState(State):
    """`x_best` has the highest margin so far, `best`; `key` is the key of the point's random numbers."""

    x_best: Tensor
    best: Tensor
    key: Tensor


@answers
class Square(Search[SquareState]):
    """Random search with square windows that shrink with the number of queries; it uses logits only.

    The call takes and returns the same as that of `APGD`, for images (N, C, H, W) of any height and width.
    The first query is an image of stripes (Linf) or tiles (L2, L1). Each of the `steps` queries after it
    changes one window per image (two for L2 and L1), and keeps the change if the margin max_{j != y} z_j -
    z_y increases. Window sides follow the published schedule for 10,000 queries, whatever `steps` is. Unlike
    in the authors' code, the windows of a point depend only on `seed` and its number, and a tie with the
    label is no success. Raises InputError for images of another shape and steps below 1. Source:
    Andriushchenko et al., "Square Attack", ECCV 2020, algorithms 1 to 3.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import Square, ThreatModel
        >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)) - 0.5, 0.5 - x.mean((1, 2, 3))], 1)
        >>> x, y = torch.full((2, 3, 8, 8), 0.52), torch.tensor([0, 0])
        >>> x_adv = Square(ThreatModel("Linf", 0.1), steps=200)(brightness, x, y)
        >>> brightness(x_adv).argmax(1)
        tensor([1, 1])
    """

    name = "square"

    def __init__(
        self, threat: ThreatModel, *, steps: int = 5000, early_stop: bool = True, seed: int = 0
    ) -> None:
        check_threat(threat)
        self.threat, (self.steps,) = threat, positive(steps=steps)
        self.early_stop, self.seed = early_stop, seed_of(seed)
        self._tables: dict[tuple[object, ...], tuple[Tensor, ...]] = {}

    def begin(self, points: Points) -> SquareState:
        if points.x.ndim != 4:
            raise InputError(
                f"Square needs images (N, C, H, W), and these are {tuple(points.x.shape)}; use another attack"
            )
        key = rng.stream(self.seed, points.ids, ATTACKS[self.name])
        worst = torch.full_like(points.eps, -torch.inf)
        return SquareState(
            **vars(State.blank(points)), x_best=self._stripes_or_tiles(points, key), best=worst, key=key
        )

    def step(self, state: SquareState, counted: CountedModel) -> None:
        s, points = state, state.points
        live, first = ~self.idle(s), s.it == 0
        new = choose(first, s.x_best, self._propose(s))
        logits = counted.logits(new)
        score = margin(logits, points.y).nan_to_num(nan=-torch.inf)
        wrong = mistaken(logits, points.y)
        s.count(live, 1, 0)
        s.strange |= live & ~usable(logits)
        s.found(live & wrong, new, self.aim(s))
        better = live & ((score > s.best) | wrong)
        s.x_best = update(s.x_best, better, new)
        s.best = torch.where(better, score, s.best)
        s.done |= live & (s.it >= self.steps)
        s.it += live.long()

    def _stripes_or_tiles(self, points: Points, key: Tensor) -> Tensor:
        """The start of the search: vertical stripes (Linf), or tiles of the pattern with random signs."""
        x, eps, bounds = points.x, per_row(points.eps, points.x), self.threat.box(points.x.dtype)
        _, channels, height, width = x.shape
        if self.threat.norm == "Linf":
            return torch.clamp(x + eps * rng.signs(rng.stream(0, key, 0), (channels, 1, width)), *bounds)
        side = max(min(height, width) // 5, 1)
        down, across = height // side, width // side
        table = pattern_table(self.threat.norm, [side])[0].to(x)
        turned = rng.signs(rng.stream(0, key, 1), (down, across)) > 0
        tiles = table[turned.long()].permute(0, 1, 3, 2, 4).reshape(len(x), 1, down * side, across * side)
        sign = rng.signs(rng.stream(0, key, 0), (channels, down, across))
        tiles = tiles * sign.repeat_interleave(side, 2).repeat_interleave(side, 3)
        delta = torch.zeros_like(x)
        top, left = (height - down * side) // 2, (width - across * side) // 2
        delta[:, :, top : top + down * side, left : left + across * side] = tiles
        return self._inside(points, delta)

    def _inside(self, points: Points, delta: Tensor) -> Tensor:
        """The image plus a perturbation of length eps (L2) or projected (L1), clipped to the box."""
        x, bounds = points.x, self.threat.box(points.x.dtype)
        if self.threat.norm == "L1":
            return project_l1(x + delta, x, points.eps * (1 - 1e-6), bounds)
        unit = delta / (sample_norm(delta, 2) + 1e-12)
        return torch.clamp(x + per_row(points.eps, x) * unit, *bounds)

    def _propose(self, s: SquareState) -> Tensor:
        x, bounds = s.points.x, self.threat.box(s.points.x.dtype)
        channels = x.shape[1]
        starts, side_of, table = self._schedule(x)
        query = s.it - 1
        phase = torch.bucketize(query, starts, right=True) - 1
        side = side_of[phase.clamp_min(0)]
        # two windows, an orientation, and a sign per channel
        draws = rng.uniform(rng.stream(0, s.key, 2, query), (5 + channels,))
        sign = torch.where(draws[:, 5:] < 0.5, -1.0, 1.0).to(x)[:, :, None, None]
        window, rows, columns = _window(draws[:, 0], draws[:, 1], side, x)
        if self.threat.norm == "Linf":
            edge = torch.clamp(x + per_row(s.points.eps, x) * sign, *bounds)
            return torch.lerp(s.x_best, edge, window)
        phase = phase.clamp_min(0)[:, None, None]
        turned = (draws[:, 4] < 0.5).long()[:, None, None]
        last = table.shape[-1] - 1
        shape = table[phase, turned, rows.clamp(0, last)[:, :, None], columns.clamp(0, last)[:, None, :]]
        second, _, _ = _window(draws[:, 2], draws[:, 3], side, x)
        return self._move_mass(s, window, second, shape[:, None] * sign)

    def _move_mass(self, s: SquareState, window: Tensor, second: Tensor, shape: Tensor) -> Tensor:
        """Remove the perturbation from the second window and use its norm in the first."""
        channels, order = s.points.x.shape[1], 2 if self.threat.norm == "L2" else 1

        def size(values: Tensor) -> Tensor:
            norm: Tensor = torch.linalg.vector_norm(values, order, dim=(2, 3), keepdim=True)
            return norm

        delta, eps = s.x_best - s.points.x, per_row(s.points.eps, shape)
        old = delta * window
        new = shape * window + old / (1e-12 + size(old))
        spent, held = size(delta * torch.maximum(window, second)), sample_norm(delta, order)
        if order == 2:
            budget = ((eps**2 - held**2).clamp_min(0) / channels + spent**2).sqrt()
        else:
            budget = ((eps - held).clamp_min(0) / channels + spent) * channels
        new = new / (1e-12 + size(new)) * budget
        kept = delta * (1 - second)
        return self._inside(s.points, torch.lerp(kept, new, window))

    def _schedule(self, x: Tensor) -> tuple[Tensor, ...]:
        """First queries of the phases, window sides, and patterns, on the device of `x`."""
        size = (x.device, x.dtype, x.shape[2], x.shape[3])
        if size not in self._tables:
            side = sides(self.threat.norm, x.shape[2], x.shape[3])
            table = torch.zeros(1) if self.threat.norm == "Linf" else pattern_table(self.threat.norm, side)
            phases, side_of = torch.tensor(PHASES), torch.tensor(side)
            self._tables[size] = phases.to(x.device), side_of.to(x.device), table.to(x)
        return self._tables[size]


def _window(down: Tensor, across: Tensor, side: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One window per row: its mask (S, 1, H, W), 1.0 inside, and the offsets of rows (S, H) and columns (S,
    W).

    As in the authors' code, the last of the H - side + 1 possible positions is never used.
    """
    height, width = x.shape[2:]
    top, left = (down * (height - side)).long(), (across * (width - side)).long()
    rows = torch.arange(height, device=x.device) - top[:, None]
    columns = torch.arange(width, device=x.device) - left[:, None]
    in_rows = ((rows >= 0) & (rows < side[:, None]))[:, None, :, None]
    in_columns = ((columns >= 0) & (columns < side[:, None]))[:, None, None, :]
    return (in_rows & in_columns).to(x), rows, columns
