"""Training methods, which compute the losses of one batch.

A method is a frozen dataclass of hyperparameters with one function, `losses(bench, x, y)`, registered by
name. The bench provides the attack and the forward pass through each route, but nothing of the loop.
"""

from robustsabn.trainers.methods.advprop import AdvProp, FastAdvProp
from robustsabn.trainers.methods.awp import Awp, MartAwp, PairedAwp, PgdAwp, TradesAwp
from robustsabn.trainers.methods.base import Bench, Crafting, Losses, Method, both, checked, score
from robustsabn.trainers.methods.fgsm import FgsmRs, GradAlign, NFgsm
from robustsabn.trainers.methods.free import Free
from robustsabn.trainers.methods.oat import Oat
from robustsabn.trainers.methods.plain import Paired, Pgd, Standard
from robustsabn.trainers.methods.registry import METHODS, check, complete, method, unknown_method
from robustsabn.trainers.methods.trades import Mart, Trades

__all__ = [
    "METHODS",
    "AdvProp",
    "Awp",
    "Bench",
    "Crafting",
    "FastAdvProp",
    "FgsmRs",
    "Free",
    "GradAlign",
    "Losses",
    "Mart",
    "MartAwp",
    "Method",
    "NFgsm",
    "Oat",
    "Paired",
    "PairedAwp",
    "Pgd",
    "PgdAwp",
    "Standard",
    "Trades",
    "TradesAwp",
    "both",
    "check",
    "checked",
    "complete",
    "method",
    "score",
    "unknown_method",
]
