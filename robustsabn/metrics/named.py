"""Extractors by name: the digits classifiers, Inception, the user's code, a trained run, or a network."""

from pathlib import Path

from torch import nn

from robustsabn.errors import ModelError
from robustsabn.metrics.before_head import BeforeHead
from robustsabn.metrics.digits import DIGITS, digits
from robustsabn.metrics.extractor import Extractor, content_of
from robustsabn.metrics.inception import inception
from robustsabn.models.factory import from_code
from robustsabn.models.spec import resolve, run_folder
from robustsabn.text import nearest, quote
from robustsabn.user_code import OwnCode

__all__ = ["SPECS", "extractor"]

SPECS = (*DIGITS, "inception[:FILE]", "path/to/file.py:FUNCTION", "package.module:FUNCTION", "a run folder")


def extractor(spec: "str | nn.Module | Extractor") -> Extractor:
    """The extractor that `spec` names: one of `SPECS`, or a network that returns features, or features and
    logits.

    FUNCTION returns an `nn.Module` from images (N, C, H, W) in [0, 1] to features (N, D), or to a pair of
    features and logits (N, K), such as `BeforeHead(classifier)`. The features of a trained run are those
    before its last layer. Networks are put into eval mode. Raises ModelError for anything else."""
    if isinstance(spec, Extractor):
        return spec
    if isinstance(spec, nn.Module):
        return Extractor(type(spec).__name__, spec.eval(), content_of(spec))
    if not isinstance(spec, str):
        raise ModelError(
            f"the extractor is {quote(spec)}; give text, one of {', '.join(SPECS)}, or a network"
        )
    if spec in DIGITS:
        return digits(spec)
    kind, _, place = spec.partition(":")
    if kind == "inception":
        return inception(place or None)
    if (code := OwnCode.split(spec)) is not None:
        source, name = code
        network = from_code(source, name).eval().requires_grad_(False)
        text = Path(source).expanduser().read_bytes() if source.endswith(".py") else b""
        return Extractor(f"{Path(source).stem}:{name}", network, content_of(network, text))
    if run_folder(spec) is not None:
        network = BeforeHead(resolve(spec)).eval().requires_grad_(False)
        return Extractor(Path(spec).resolve().name, network, content_of(network))
    hint = f"; name its function: {spec}:FUNCTION" if spec.endswith(".py") else nearest(spec, DIGITS)
    raise ModelError(f"unknown extractor {quote(spec)}{hint}; allowed: {', '.join(SPECS)}")
