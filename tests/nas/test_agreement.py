"""Rank correlations beside counting pairs, with ties."""

import random
from collections.abc import Callable, Sequence
from math import sqrt

import pytest

from robustsabn.errors import InputError
from robustsabn.nas.agreement import kendall_tau, spearman_rho

Measure = Callable[[Sequence[float], Sequence[float]], float]


def tau_by_pairs(a: Sequence[float], b: Sequence[float]) -> float:
    total = untied_a = untied_b = 0
    for i in range(len(a)):
        for j in range(i):
            x, y = (a[i] > a[j]) - (a[i] < a[j]), (b[i] > b[j]) - (b[i] < b[j])
            total, untied_a, untied_b = total + x * y, untied_a + x * x, untied_b + y * y
    return total / sqrt(untied_a * untied_b)


def mean_ranks(scores: Sequence[float]) -> list[float]:
    return [sum(x < s for x in scores) + (1 + sum(x == s for x in scores)) / 2 for s in scores]


def rho_by_ranks(a: Sequence[float], b: Sequence[float]) -> float:
    x, y = mean_ranks(a), mean_ranks(b)
    middle = (len(a) + 1) / 2
    across = sum((p - middle) * (q - middle) for p, q in zip(x, y, strict=True))
    return across / sqrt(sum((p - middle) ** 2 for p in x) * sum((q - middle) ** 2 for q in y))


@pytest.mark.parametrize("levels", [4, 1000])
def test_beside_counting(levels: int) -> None:
    draw = random.Random(levels)
    a = [draw.randrange(levels) for _ in range(60)]
    b = [x + draw.randrange(levels) for x in a]
    assert kendall_tau(a, b) == pytest.approx(tau_by_pairs(a, b))
    assert spearman_rho(a, b) == pytest.approx(rho_by_ranks(a, b))
    assert kendall_tau(a, a) == pytest.approx(1)
    assert spearman_rho(a, [-x for x in a]) == pytest.approx(-1)


@pytest.mark.parametrize("measure", [kendall_tau, spearman_rho])
def test_what_cannot_be_compared(measure: Measure) -> None:
    assert measure([1, 1, 1], [1, 2, 3]) == 0
    assert measure([1, 2, 3], [0, 0, 0]) == 0
    with pytest.raises(InputError, match="2 and 3 scores; give two lists of the same length"):
        measure([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="1 and 1 scores"):
        measure([1], [1])
