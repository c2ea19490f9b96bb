"""Spectral normalisation of all layers of a network."""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["normalise_spectrally"]


def normalise_spectrally(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Divide the weight of every layer of these kinds by its largest singular value.

    It uses one power iteration per forward. Initialise the weights first, since the singular vectors start
    from them. Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks"."""
    # Torch's parametrisation and not its older hook. The hook's `weight` is no leaf after a forward, which
    # deepcopy (an averaged network) refuses, and no Parameter, so what reads parameters by name loses it. Of
    # the parametrisation the state dict has the plain matrix and two vectors (safetensors), a forward in
    # train mode moves the vectors without communication (equal on all processes, as the weights are), and
    # both are differentiated twice (gradient penalty).
    for layer in list(network.modules()):
        if isinstance(layer, kinds):
            spectral_norm(layer, eps=1e-12)
