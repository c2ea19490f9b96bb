"""As many positions as samples: routes by sample follow the samples, or are refused, at every forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import Split, convert
from robustsabn.errors import RouteError
from robustsabn.routing import Selection, route
from tests.helpers.randomise import randomise, through

N, C = 8, 4
SELECTIONS: list[tuple[Selection, list[int]]] = [
    (Split(clean=4, adv=4), [0] * 4 + [1] * 4),
    (torch.tensor([0, 1, 1, 0, 1, 0, 0, 1]), [0, 1, 1, 0, 1, 0, 0, 1]),
]
Use = Callable[[nn.Module, Tensor], Tensor]


class Using(nn.Module):
    """A network that uses one norm in its own way and pools to logits (N, 3)."""

    def __init__(self, norm: nn.Module, use: Use) -> None:
        super().__init__()
        self.norm, self.head, self.use = norm, nn.Linear(C, 3), use

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.use(self.norm, x))
        return out


def by_sample(norm: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([norm(one).mean(0) for one in x])


def signal(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x.transpose(1, 2)).mean(2)  # type: ignore[no-any-return]


def position_first(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x.permute(1, 2, 0)).mean(0).T  # type: ignore[no-any-return]


def rows_of_positions(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x.permute(1, 2, 0).unsqueeze(3).repeat(1, 1, 1, 3)).mean((0, 3)).T  # type: ignore[no-any-return]


def video_by_sample(norm: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([norm(one[:, :, None, None].repeat(1, 1, 2, 2)).mean((0, 2, 3)) for one in x])


REFUSED: dict[str, tuple[Callable[[], nn.Module], Use]] = {
    "layer norm, sample by sample": (lambda: nn.LayerNorm(C), by_sample),
    "layer norm, both layouts": (
        lambda: nn.LayerNorm(C),
        lambda norm, x: norm(norm(x.transpose(0, 1)).transpose(0, 1)).mean(1),
    ),
    "layer norm, both layouts, samples first first": (
        lambda: nn.LayerNorm(C),
        lambda norm, x: norm(norm(x).transpose(0, 1)).mean(0),
    ),
    "layer norm, dense outputs": (lambda: nn.LayerNorm(C), lambda norm, x: norm(x)),
    "batch norm, sample by sample": (lambda: nn.BatchNorm1d(C), by_sample),
    "batch norm, videos sample by sample": (lambda: nn.BatchNorm2d(C), video_by_sample),
    "batch norm, position first": (lambda: nn.BatchNorm1d(C), position_first),
    "batch norm, position first, rows": (lambda: nn.BatchNorm2d(C), rows_of_positions),
    "group norm, sample by sample": (lambda: nn.GroupNorm(2, C), by_sample),
    "group norm, position first": (lambda: nn.GroupNorm(2, C), position_first),
    "group norm, position first, rows": (lambda: nn.GroupNorm(2, C), rows_of_positions),
    "layer norm, mapped": (lambda: nn.LayerNorm(C), lambda norm, x: torch.vmap(norm)(x).mean(1)),
    "group norm, mapped": (lambda: nn.GroupNorm(2, C), lambda norm, x: torch.vmap(norm)(x).mean(1)),
    "one sample alone": (lambda: nn.BatchNorm1d(C), lambda norm, x: x.mean(1) + norm(x[0]).mean(0)),
    "a mean over the samples": (lambda: nn.LayerNorm(C), lambda norm, x: x.mean(1) + norm(x.mean(0)).mean(0)),
    "batch norm, repeated positions first": (
        lambda: nn.BatchNorm1d(C),
        lambda norm, x: norm(x.permute(1, 2, 0).repeat(1, 1, 3)).unflatten(2, (3, -1)).mean((0, 2)).T,
    ),
    "data-dependent signals": (lambda: nn.BatchNorm1d(C), lambda norm, x: signal(norm, x) * float(x.sum())),
    "a data-dependent loop": (
        lambda: nn.LayerNorm(C),
        lambda norm, x: by_sample(norm, x) * float(x.sum()),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_follow_the_samples_is_refused_every_time(case: str) -> None:
    norm, use = REFUSED[case]
    model = randomise(convert(Using(norm(), use), "sabn"))
    x = torch.rand(N, N, C)
    for selection, _ in SELECTIONS * 2:
        with pytest.raises(RouteError, match=r"not clear.* route\(model, name\), method\.forward=separate"):
            through(model, selection, x)
    through(model, "adv", x)


RIGHT: dict[str, tuple[Callable[[], nn.Module], Use]] = {
    "layer norm": (lambda: nn.LayerNorm(C), lambda norm, x: norm(x).mean(1)),
    "layer norm, the model's input is (L, N, C)": (lambda: nn.LayerNorm(C), lambda norm, x: norm(x).mean(0)),
    "layer norm, position by position": (
        lambda: nn.LayerNorm(C),
        lambda norm, x: torch.stack([norm(one) for one in x.unbind(1)]).sum(0),
    ),
    "layer norm, a part of each sample": (lambda: nn.LayerNorm(C), lambda norm, x: norm(x[:, 0])),
    "batch norm": (lambda: nn.BatchNorm1d(C), signal),
    "batch norm, two views": (lambda: nn.BatchNorm1d(C), lambda norm, x: norm(x[:, 0]) * norm(x[:, 1])),
    "group norm": (lambda: nn.GroupNorm(2, C), signal),
    "instance norm": (lambda: nn.InstanceNorm1d(C, affine=True), signal),
    "data-dependent batch norm": (
        lambda: nn.BatchNorm1d(C),
        lambda norm, x: norm(x.mean(1)) * float(x.sum()),
    ),
}


@pytest.mark.parametrize("case", RIGHT)
@pytest.mark.parametrize("length", [N, 5])
def test_what_follows_the_samples_is_right(case: str, length: int) -> None:
    norm, use = RIGHT[case]
    model = randomise(convert(Using(norm(), use), "sabn")).eval()
    x = torch.rand((length, N, C) if "(L, N, C)" in case else (N, length, C))
    whole = [through(model, name, x) for name in ("clean", "adv")]
    assert not torch.allclose(whole[0], whole[1])
    for selection, routes in SELECTIONS * 2:
        expected = torch.stack([whole[r][n] for n, r in enumerate(routes)])
        torch.testing.assert_close(through(model, selection, x), expected)
    assert model.get_submodule("norm").batch_dim == int("(L, N, C)" in case)


def test_as_many_features_as_samples_say_nothing() -> None:
    """Also where the network looks at its data, and so cannot be asked without."""
    body = Using(nn.LayerNorm(N), lambda norm, x: norm(x) * float(x.detach().sum()))
    body.head = nn.Linear(N, 3)
    model = randomise(convert(nn.Sequential(nn.Linear(C, N), body), "sabn"))
    x = torch.rand(N, 5, C)
    whole = [through(model, name, x) for name in ("clean", "adv")]
    found = through(model, Split(clean=4, adv=4), x)
    torch.testing.assert_close(found, torch.cat([whole[0][:4], whole[1][4:]]))


def test_a_shared_batch_norm_without_routes_is_not_asked() -> None:
    model = convert(Using(nn.BatchNorm1d(C), by_sample), "bn")
    x = torch.rand(N, N, C)
    torch.testing.assert_close(through(model, Split(clean=4, adv=4), x), through(model, "clean", x))


def test_images_are_never_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where their sides are as long as the batch, and two forwards run in one block."""
    model = convert(
        nn.Sequential(nn.Conv2d(3, C, 1), nn.BatchNorm2d(C), nn.ReLU(), nn.BatchNorm2d(C)), "saauxbn"
    )

    def forbidden(*given: Any) -> None:
        raise AssertionError("rehearsed")

    monkeypatch.setattr("robustsabn.layers.batch_dim.rehearse", forbidden)
    for _ in range(2):
        with route(model, Split(clean=4, adv=4)):
            model(torch.rand(N, 3, N, N))
            model(torch.rand(N, 3, N, N))
    assert model.get_submodule("1").batch_dim == 0


def test_a_forward_that_was_refused_settles_nothing() -> None:
    model = convert(Using(nn.BatchNorm1d(C), by_sample), "saauxbn")
    with pytest.raises(RouteError, match="covers 8 samples and the batch has 5"):
        through(model, Split(clean=4, adv=4), torch.rand(N, 5, C))
    for _ in range(2):
        with pytest.raises(RouteError, match="not clear"):
            through(model, Split(clean=4, adv=4), torch.rand(N, N, C))
