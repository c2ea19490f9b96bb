"""Attacks of other libraries behind one call; their successes are verified like those of our own attacks."""

from robustsabn.attacks.adapters.foreign_attack import ForeignAttack, foreign, foreign_report
from robustsabn.attacks.adapters.libraries import LIBRARIES
from robustsabn.attacks.adapters.official_code import official

__all__ = ["LIBRARIES", "ForeignAttack", "foreign", "foreign_report", "official"]
