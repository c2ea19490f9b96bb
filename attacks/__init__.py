"""Attacks on any callable that returns logits."""

from robustsabn.attacks.threat import ThreatModel

__all__ = ["ThreatModel"]
