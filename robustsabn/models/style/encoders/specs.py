"""Encoders by specification, such as `random` or `vgg19:FILE`."""

from __future__ import annotations

from torch import nn

from robustsabn.errors import ModelError
from robustsabn.models.style.encoders.convolutions import RandomConvolutions
from robustsabn.models.style.encoders.encoder import Encoder
from robustsabn.models.style.encoders.vgg import digest_of, file_digest, read_normalised, read_vgg
from robustsabn.text import nearest, quote
from robustsabn.user_code import OwnCode

__all__ = ["SPECS", "build_encoder"]

SPECS = (
    "random",
    "vgg_normalised:FILE",
    "vgg16:FILE[,input=caffe]",
    "vgg19:FILE[,input=caffe]",
    "path/to/file.py:FUNCTION",
    "package.module:FUNCTION",
)


def build_encoder(spec: str, *, scaled: bool | None = None) -> Encoder:
    """The encoder that `spec`, one of `SPECS`, names, in eval mode.

    - random: fixed random filters, with the taps relu1_1, relu2_1 and relu3_1; needs no file.
    - vgg_normalised:FILE: the VGG-19 of AdaIN in its original layout.
    - vgg16:FILE, vgg19:FILE: weights under torchvision's names; `input=caffe` says that they expect BGR from
      0 to 255 minus the mean of ImageNet, as Caffe's do, instead of torchvision's mean and deviation.
    - your own function, which returns a module: see `Encoder`.

    Of a VGG only the layers up to relu4_1 are read. `scaled`: whether channels are scaled to a mean of 1; by
    default those of all encoders but `vgg_normalised`, which is. The scales are 1 until `Encoder.calibrate`.
    Raises ModelError for other specifications and for files that do not fit.
    """
    if not isinstance(spec, str):
        raise ModelError(f"encoder is {quote(spec)}; give text, one of {', '.join(SPECS)}")
    kind, _, rest = spec.partition(":")
    if spec == "random":
        return Encoder(RandomConvolutions(), spec, scaled=scaled is not False)
    if kind in ("vgg16", "vgg19") and rest:
        file, _, given = rest.rpartition(",input=")
        file, given = (file, given) if file else (rest, "torchvision")
        body: nn.Module = read_vgg(kind, file, given)
        return Encoder(body, spec, digest=file_digest(file), scaled=scaled is not False)
    if kind == "vgg_normalised" and rest:
        return Encoder(read_normalised(rest), spec, digest=file_digest(rest), scaled=bool(scaled))
    place = OwnCode.split(spec)
    if place is None:
        hint = nearest(kind, ["random", "vgg_normalised", "vgg16", "vgg19"])
        raise ModelError(f"encoder {quote(spec)} is unknown{hint}; allowed: {', '.join(SPECS)}")
    code = OwnCode(place[0], ModelError, "an encoder of your own is path/to/file.py:FUNCTION")
    with code.opened() as module:
        made: object = code.run(code.attribute(module, place[1]), spec)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{spec} returned {quote(made)}; give a torch.nn.Module with taps")
    return Encoder(made, spec, digest=digest_of(made), scaled=scaled is not False)
