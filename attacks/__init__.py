"""Attacks on any callable that returns logits."""

from robustsabn.attacks.autoattack.autoattack import AutoAttack, ProgressEvent
from robustsabn.attacks.model.inputs import ZeroGradientWarning
from robustsabn.attacks.model.mode import TrainModeWarning, attack_mode
from robustsabn.attacks.model.outputs import ProbabilitiesWarning, TwoClasses
from robustsabn.attacks.model.verify import accuracy, verify
from robustsabn.attacks.pgd import FGSM, PGD
from robustsabn.attacks.report import AttackCost, Flag, Report
from robustsabn.attacks.search.apgd import APGD, APGDT
from robustsabn.attacks.search.fab import FAB, FABT
from robustsabn.attacks.search.square import Square
from robustsabn.attacks.threat import ThreatModel

__all__ = [
    "APGD",
    "APGDT",
    "FAB",
    "FABT",
    "FGSM",
    "PGD",
    "AttackCost",
    "AutoAttack",
    "Flag",
    "ProbabilitiesWarning",
    "ProgressEvent",
    "Report",
    "Square",
    "ThreatModel",
    "TrainModeWarning",
    "TwoClasses",
    "ZeroGradientWarning",
    "accuracy",
    "attack_mode",
    "verify",
]
