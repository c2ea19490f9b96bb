"""Robust image classifiers by adversarial training with routed normalisation (sandwich and auxiliary BN)."""

from pathlib import Path as _Path

__version__ = "0.1.0"
__all__ = ["__version__"]

# Source checkout only: attacks/, trainers/ and configs/ sit beside this folder, not inside it.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "attacks" / "__init__.py").is_file():
    __path__.append(str(_root))
