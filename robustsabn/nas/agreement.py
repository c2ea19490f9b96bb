"""Agreement of two rankings of the same cells."""

from collections.abc import Sequence
from typing import Any

from robustsabn.errors import InputError

__all__ = ["kendall_tau", "spearman_rho"]


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two lists of scores, from -1 to 1.

        tau = (concordant pairs - discordant pairs) / sqrt(pairs not tied in a * pairs not tied in b)

    It is 0 if all scores of a list are equal. Raises InputError unless the lists have the same length of at
    least 2.

    Example:

        >>> from robustsabn.nas.agreement import kendall_tau
        >>> kendall_tau([1, 2, 3], [10, 30, 20])
        0.3333333333333333
    """
    from scipy.stats import kendalltau

    measured: Any = kendalltau
    return float(measured(a, b).statistic) if _comparable(a, b) else 0.0


def spearman_rho(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rho: the correlation of the ranks in two lists of scores, from -1 to 1.

    Ties, constant lists and errors are as those of `kendall_tau`.
    """
    from scipy.stats import spearmanr

    measured: Any = spearmanr
    return float(measured(a, b).statistic) if _comparable(a, b) else 0.0


def _comparable(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether neither list is constant; InputError if they cannot be compared."""
    if len(a) != len(b) or len(a) < 2:
        raise InputError(f"{len(a)} and {len(b)} scores; give two lists of the same length of at least 2")
    return len(set(a)) > 1 and len(set(b)) > 1
