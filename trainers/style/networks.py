"""The network of a run: new, resumed, or that of another run with further styles."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.models.style import Encoder, Stylizer, build_encoder, build_stylizer
from robustsabn.models.style.norms import StyleRoutes
from robustsabn.text import quote, shorten
from robustsabn.trainers.loop.draws import derive
from robustsabn.trainers.style.config import StyleConfig

__all__ = [
    "build_network",
    "encoder_facts",
    "freeze_all_but_routes",
    "rebuild_network",
    "used_taps",
    "with_styles",
]


def build_network(config: StyleConfig, styles: Sequence[str] = ()) -> Stylizer:
    """A network for `config` with fixed `styles`, if any; new weights depend only on the seed."""
    return _with_encoder(build_encoder(config.encoder, scaled=config.scale_channels), config, styles)


def rebuild_network(
    config: StyleConfig, state: dict[str, Any], where: object, encoder: str | None = None
) -> Stylizer:
    """The network of a checkpoint with `state`, to be filled with its weights.

    `encoder` replaces the specification of the configuration. Raises CheckpointError, which names the run
    `where`, unless the encoder has the weights that it was trained with.
    """
    built = build_encoder(encoder or config.encoder, scaled=config.scale_channels)
    _check_encoder(built, state, where)
    return _with_encoder(built, config, state["styles"])


def _with_encoder(built: Encoder, config: StyleConfig, styles: Sequence[str]) -> Stylizer:
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(config.seed, "model"))
        return build_stylizer(built, config.norm, config.tap, styles)


def used_taps(config: StyleConfig, stylizer: Stylizer) -> tuple[str, ...]:
    """The taps of the style loss, in order. Raises ModelError for one that the encoder does not have."""
    chosen = config.style_taps or stylizer.encoder.taps
    for tap in chosen:
        stylizer.encoder.check_tap(tap)
    return tuple(tap for tap in stylizer.encoder.taps if tap in chosen)


def encoder_facts(encoder: Encoder) -> dict[str, str]:
    """What a checkpoint says about the encoder, whose weights it does not contain."""
    return {"spec": encoder.spec, "sha256": encoder.digest}


def _check_encoder(encoder: Encoder, state: dict[str, Any], where: object) -> None:
    known = state.get("encoder")
    if not isinstance(known, dict) or known.get("sha256") != encoder.digest:
        before = known.get("spec") if isinstance(known, dict) else known
        raise CheckpointError(
            f"{where} was trained with the encoder {quote(before)}, whose weights differ from those of "
            f"{quote(encoder.spec)}; give the same weight file"
        )


def with_styles(stylizer: Stylizer, names: Sequence[str]) -> Stylizer:
    """The same network with further styles, of which only the routes are trained.

    All other parameters are frozen, and so are the rows of the tables that belong to other styles.
    """
    old = stylizer.norm
    if not isinstance(old, StyleRoutes):
        raise ConfigError("start: a network that takes styles from pictures needs no routes for them")
    for name in names:
        if name in stylizer.styles:
            raise ConfigError(f"styles: the network has a style {shorten(name)} already; rename the file")
    norm = StyleRoutes(old.num_features, (*old.router.names, *names))
    grown = Stylizer(stylizer.encoder, norm, stylizer.decoder, stylizer.tap)
    kept = len(old.router.names) * old.num_features
    with torch.no_grad():
        for name, parameter in norm._parameters.items():
            source = old._parameters[name]
            assert parameter is not None
            assert source is not None
            parameter[: len(source)] = source
    freeze_all_but_routes(grown, kept)
    return grown


def freeze_all_but_routes(stylizer: Stylizer, kept: int) -> None:
    """Train nothing but the tables of the routes from entry `kept` on."""

    def new_only(gradient: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(gradient[:kept]), gradient[kept:]])

    stylizer.requires_grad_(False)
    for name in ("route_weight", "route_bias"):
        table = stylizer.norm._parameters[name]
        assert table is not None
        table.requires_grad_(True)
        table.register_hook(new_only)  # type: ignore[no-untyped-call]
