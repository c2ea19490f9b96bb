"""The searches by name: what the edges of a supernet compute in one forward."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from robustsabn.nas import EDGES, OPERATIONS, Cell

__all__ = ["SEARCHERS", "Edges", "Searcher", "random_cells", "temperature"]


class Edges(NamedTuple):
    """What the edges of all cells compute in one forward, the arguments of `Supernet.forward`.

    `weights` (6, 5) of the operations, and `path`, the only operation of each edge; one of them may be None.
    """

    weights: Tensor | None
    path: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """A search.

    - edges: from the architecture (6, 5), the part of the run that is done, in [0, 1], and a generator.
    - learns: the architecture is trained, and its largest entries are the found cell.
    - shares: cells share the weights of a supernet; otherwise each is trained alone.
    - unrolled: the gradient of the architecture looks one step of the weights ahead.
    """

    edges: Callable[[Tensor, float, torch.Generator], Edges]
    learns: bool = True
    shares: bool = True
    unrolled: bool = False


def _mixed(architecture: Tensor, done: float, source: torch.Generator) -> Edges:
    """All operations with weights softmax(architecture). Liu et al., ICLR 2019, "DARTS"."""
    return Edges(architecture.softmax(1), None)


def temperature(done: float) -> float:
    """The temperature of GDAS, linear from 10 to 0.1 over the run, as in NAS-Bench-201."""
    return 10.0 + (0.1 - 10.0) * done


def _gumbel(architecture: Tensor, done: float, source: torch.Generator) -> Edges:
    """One operation for each edge, argmax of p = softmax((log softmax(architecture) + Gumbel) / temperature).

    Its weight is 1, with the gradient of p: only the chosen operations are computed, and only their entries
    of p get gradients. The host waits once for the choice.
    Source: Dong & Yang, CVPR 2019, "Searching for a Robust Neural Architecture in Four GPU Hours", eq. 3-6.
    """
    noise = torch.empty_like(architecture).exponential_(generator=source)
    gumbel = -noise.clamp(min=torch.finfo(noise.dtype).tiny).log()
    p = ((log_softmax(architecture, 1) + gumbel) / temperature(done)).softmax(1)
    chosen = p.detach().argmax(1)
    weights = one_hot(chosen, len(OPERATIONS)).to(p.dtype) - p.detach() + p
    return Edges(weights, tuple(chosen.tolist()))


def _uniform(architecture: Tensor, done: float, source: torch.Generator) -> Edges:
    """One operation for each edge, all equally likely.

    Li & Talwalkar, UAI 2019, "Random Search and Reproducibility for Neural Architecture Search".
    """
    drawn = torch.randint(len(OPERATIONS), (len(EDGES),), generator=source, device=source.device)
    return Edges(None, tuple(drawn.tolist()))


SEARCHERS: Mapping[str, Searcher] = {
    "darts": Searcher(edges=_mixed),
    "darts-second-order": Searcher(edges=_mixed, unrolled=True),
    "gdas": Searcher(edges=_gumbel),
    "random-sharing": Searcher(edges=_uniform, learns=False),
    "random": Searcher(edges=_uniform, learns=False, shares=False),
}


def random_cells(n: int, source: torch.Generator) -> tuple[Cell, ...]:
    """`n` different cells, all equally likely; at most all of them."""
    order = torch.randperm(len(OPERATIONS) ** len(EDGES), generator=source, device=source.device)
    return tuple(_numbered(number) for number in order[:n].tolist())


def _numbered(number: int) -> Cell:
    digits = []
    for _ in EDGES:
        number, digit = divmod(number, len(OPERATIONS))
        digits.append(digit)
    return Cell(tuple(reversed(digits)))
