"""Attacks on any callable that returns logits."""

from robustsabn.attacks.mode import TrainModeWarning, attack_mode
from robustsabn.attacks.pgd import FGSM, PGD
from robustsabn.attacks.success import accuracy, verify
from robustsabn.attacks.threat import ThreatModel

__all__ = ["FGSM", "PGD", "ThreatModel", "TrainModeWarning", "accuracy", "attack_mode", "verify"]
