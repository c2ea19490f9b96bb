"""VGG weights from files; what they expect of pictures is folded into the first convolution.

`vgg_normalised` is a sequence whose layer 0 is a 1 x 1 convolution of the colours and whose other
convolutions follow in order. torchvision's files have `features.N.weight` and `features.N.bias`; the
convolutions are read in the order of N, up to relu4_1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from robustsabn.errors import ModelError
from robustsabn.models.style.encoders.convolutions import VGG16, VGG19, Convolutions
from robustsabn.models.weights import read_weights
from robustsabn.paths import given_path
from robustsabn.text import nearest, quote

__all__ = ["INPUTS", "digest_of", "file_digest", "read_normalised", "read_vgg"]

LAYERS = {"vgg16": VGG16, "vgg19": VGG19}
INPUTS = ("torchvision", "caffe")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (104.007, 116.669, 122.679)
"""The mean of ImageNet in BGR from 0 to 255."""

Layer = tuple[Tensor, Tensor]


def read_vgg(kind: str, file: str, given: str = "torchvision") -> Convolutions:
    """The VGG-16 or VGG-19 in a file with torchvision's names, for RGB in [0, 1].

    `given`, one of `INPUTS`, says what the weights expect. Raises ModelError for other files.
    """
    if given not in INPUTS:
        raise ModelError(f"input={quote(given)}{nearest(given, INPUTS)}; allowed: {', '.join(INPUTS)}")
    layers = _convolutions(read_weights(file), r"(?:.*\.)?features\.(\d+)\.weight")
    body = _filled(LAYERS[kind], layers, f"{file} is no {kind} of torchvision")
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    weight, bias = body.weights[0], body.biases[0]
    with torch.no_grad():
        if given == "caffe":
            bias -= (weight.sum((2, 3)) * torch.tensor(CAFFE_MEAN)).sum(1)
            weight.copy_(255 * weight.flip(1))
        else:
            weight /= std.view(-1, 1, 1)
            bias -= (weight.sum((2, 3)) * mean).sum(1)
    return body


def read_normalised(file: str) -> Convolutions:
    """The `vgg_normalised` in a file. Raises ModelError for other files."""
    layers = _convolutions(read_weights(file), r"(\d+)\.weight")
    colours = layers[0][0] if layers else torch.empty(0)
    if colours.shape != (3, 3, 1, 1):
        raise ModelError(
            f"{file} is not in the layout of vgg_normalised, whose first layer is a 1 x 1 convolution of 3 "
            "channels; for torchvision's layout write vgg19:FILE or vgg16:FILE"
        )
    body = _filled(VGG19, layers[1:], f"{file} is not in the layout of vgg_normalised")
    weight, bias = body.weights[0], body.biases[0]
    with torch.no_grad():
        bias += (weight.sum((2, 3)) * layers[0][1]).sum(1)
        weight.copy_(torch.einsum("okhw,ki->oihw", weight, colours[:, :, 0, 0]))
    return body


def file_digest(file: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(given_path(file, "the weight file", ModelError).read_bytes()).hexdigest()


def digest_of(module: nn.Module) -> str:
    """SHA-256 of the names and values of all tensors of a module, in hexadecimal."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _convolutions(state: Mapping[str, Tensor], pattern: str) -> list[Layer]:
    """Weights and biases of the convolutions whose numbers `pattern` finds, in order."""
    found = dict[int, Layer]()
    for name, weight in state.items():
        match, bias = re.fullmatch(pattern, name), state.get(name.removesuffix("weight") + "bias")
        if match and weight.ndim == 4 and bias is not None:
            found[int(match[1])] = (weight.float(), bias.float())
    return [found[n] for n in sorted(found)]


def _filled(layers: Sequence[int], given: Sequence[Layer], problem: str) -> Convolutions:
    """The network with the given convolutions, as many blocks of it as there are weights for."""
    depth, wanted = 0, [width for width in layers if width]
    for (weight, bias), width in zip(given, wanted, strict=False):
        before = 3 if depth == 0 else wanted[depth - 1]
        if weight.shape != (width, before, 3, 3) or bias.shape != (width,):
            raise ModelError(
                f"{problem}: convolution {depth + 1} has weights {tuple(weight.shape)}, not "
                f"{(width, before, 3, 3)}; give the weights of that network"
            )
        depth += 1
    ends = [at for at, width in enumerate(layers) if width and sum(map(bool, layers[: at + 1])) == depth]
    if not ends:
        raise ModelError(f"{problem}: it has no convolutions; give the weights of that network")
    body = Convolutions(layers[: ends[0] + 1])
    with torch.no_grad():
        for k, (weight, bias) in enumerate(given[:depth]):
            body.weights[k].copy_(weight)
            body.biases[k].copy_(bias)
    return body
