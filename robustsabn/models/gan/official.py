"""Weights of published GANs: github.com/VITA-Group/Sandwich-Batch-Normalization, and BigGAN-PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from robustsabn.arguments import a_module
from robustsabn.errors import ModelError
from robustsabn.models.gan.autogan import AutoGANGenerator
from robustsabn.models.gan.biggan import BigGANGenerator
from robustsabn.models.gan.discriminators import Discriminator
from robustsabn.models.gan.official_names import of_autogan, of_biggan, of_discriminator, of_sngan
from robustsabn.models.gan.sngan import SNGANGenerator
from robustsabn.models.weights import read_torch, read_weights
from robustsabn.paths import given_path
from robustsabn.state_versions import load_state
from robustsabn.text import quote

__all__ = ["load_official"]

N = TypeVar("N", bound=nn.Module)
State = dict[str, Tensor]

_LAYOUTS: dict[type[nn.Module], Callable[[nn.Module, State], State]] = {
    SNGANGenerator: of_sngan,
    AutoGANGenerator: of_autogan,
    BigGANGenerator: of_biggan,
    Discriminator: of_discriminator,
}


def load_official(network: N, weights: Mapping[str, Any] | str | Path) -> N:
    """Load published weights into a generator or discriminator of `build`, strictly, and return it.

    weights: a state dict, or the path of a torch file, whose code is never run. In a whole checkpoint of
    SaBN's code the averaged generator and the discriminator are found. The layouts are:

    - SNGAN and AutoGAN of SaBN's code, with bn, ccbn or sabn, and their discriminators;
    - BigGAN-PyTorch with norm ccbn, hierarchical with a shared embedding (--hier --G_shared) or neither
      (hierarchical=False), and its discriminator.

    All have spectral normalisation as published. Raises ModelError, with the network unchanged, for a file
    that cannot be read, a network of another kind, and unknown, missing or wrongly shaped entries."""
    a_module("the network", network, ModelError)
    layout = next((_LAYOUTS[kind] for kind in _LAYOUTS if isinstance(network, kind)), None)
    if layout is None:
        raise ModelError(
            f"no published layout of weights is known for {type(network).__name__}; give a network of "
            "models.gan.build"
        )
    _load(network, layout(network, _state_of(network, weights)))
    return network


def _state_of(network: nn.Module, weights: Any) -> State:
    if isinstance(weights, (str, Path)):
        path = given_path(weights, "the weight file", ModelError)
        if path.suffix == ".safetensors":
            weights = read_weights(path)
        elif path.is_file():
            weights = read_torch(path)
        else:
            raise ModelError(f"no such weight file: {path}; give the path of a .safetensors or torch file")
    if not isinstance(weights, Mapping):
        raise ModelError(f"the weights are {quote(weights)}; give a state dict or the path of a torch file")
    entries = ["dis_state_dict"]
    if not isinstance(network, Discriminator):
        entries = ["avg_gen_state_dict", "gen_state_dict"]
    content = next((weights[k] for k in entries if isinstance(weights.get(k), Mapping)), weights)
    for key, value in content.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise ModelError(
                f"the entry {quote(key)} is {type(value).__name__}, not a tensor; give the state dict of "
                "one network"
            )
    if all(key.startswith("module.") for key in content):  # of nn.DataParallel
        return {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def _load(network: nn.Module, state: State) -> None:
    own = network.state_dict()
    # files of torch 0.4 count no batches
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in own]
    other = [key for key in own if key in state and own[key].shape != state[key].shape]
    problem = ""
    if missing or unknown:
        parts = [("lacks", missing), ("has besides", unknown)]
        problem = "the file " + " and ".join(
            f"{what} {', '.join(keys[:2])}{f' and {len(keys) - 2} more' if len(keys) > 2 else ''}"
            for what, keys in parts
            if keys
        )
    elif other:
        theirs, ours = tuple(state[other[0]].shape), tuple(own[other[0]].shape)
        problem = f"{other[0]} is {theirs} in the file and {ours} in the network"
    if problem:
        raise ModelError(
            f"the weights do not fit {type(network).__name__}: {problem}, by our names; "
            "build the network with the norm, classes and widths of the file"
        )
    load_state(network, state)
