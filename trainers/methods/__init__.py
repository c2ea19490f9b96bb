"""Training methods: what is lost on one batch.

A method is a frozen dataclass of its hyperparameters with one function, `losses(bench, x, y)`, registered by name. The
bench lends it the attack, the forward through each route, and nothing of the loop.
"""

from robustsabn.trainers.methods.base import (
    METHODS,
    Bench,
    Crafting,
    Losses,
    Method,
    both,
    check,
    method,
    score,
)
from robustsabn.trainers.methods.fgsm import FgsmRs, GradAlign, NFgsm
from robustsabn.trainers.methods.plain import Paired, Pgd, Standard
from robustsabn.trainers.methods.trades import Mart, Trades

__all__ = [
    "METHODS",
    "Bench",
    "Crafting",
    "FgsmRs",
    "GradAlign",
    "Losses",
    "Mart",
    "Method",
    "NFgsm",
    "Paired",
    "Pgd",
    "Standard",
    "Trades",
    "both",
    "check",
    "method",
    "score",
]
