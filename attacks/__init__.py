"""Attacks on any callable that returns logits."""

from robustsabn.attacks.apgd import APGD, APGDT
from robustsabn.attacks.autoattack import AutoAttack, ProgressEvent
from robustsabn.attacks.fab import FAB, FABT
from robustsabn.attacks.inputs import ZeroGradientWarning
from robustsabn.attacks.mode import TrainModeWarning, attack_mode
from robustsabn.attacks.outputs import ProbabilitiesWarning, TwoClasses
from robustsabn.attacks.pgd import FGSM, PGD
from robustsabn.attacks.report import AttackCost, Flag, Report
from robustsabn.attacks.square import Square
from robustsabn.attacks.success import accuracy, verify
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
