"""Encoders of style transfer: frozen networks with named taps."""

from robustsabn.models.style.encoders.encoder import Encoder
from robustsabn.models.style.encoders.specs import SPECS, build_encoder

__all__ = ["SPECS", "Encoder", "build_encoder"]
