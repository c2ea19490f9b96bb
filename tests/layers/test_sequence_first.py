"""Samples in another dimension than the first: routes by sample follow them, or are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn import Split, convert
from robustsabn.errors import RouteError
from robustsabn.layers import RoutedLayerNorm
from robustsabn.routing import Selection, route
from tests.helpers.randomise import randomise, through

N, C = 6, 8
SELECTIONS: dict[str, tuple[Selection, list[int]]] = {
    "per sample": (torch.tensor([0, 1, 0, 1, 1, 0]), [0, 1, 0, 1, 1, 0]),
    "split": (Split(clean=2, adv=4), [0, 0, 1, 1, 1, 1]),
}


class Around(nn.Module):
    """Features (N, L, 6) to logits (N, 3), with a body on (L, N, C), or on (N, L, C) with `first`."""

    def __init__(self, body: nn.Module, first: bool = False) -> None:
        super().__init__()
        self.embed, self.body, self.head, self.first = nn.Linear(6, C), body, nn.Linear(C, 3), first

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.body(x) if self.first else self.body(x.transpose(0, 1)).transpose(0, 1)
        out: Tensor = self.head(x.mean(1))
        return out


class ClipBlock(nn.Module):
    """Torch's attention, which takes the samples second, between norms."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.attention = nn.LayerNorm(C), nn.MultiheadAttention(C, 2)
        self.after = nn.LayerNorm(C)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        out: Tensor = self.after(x + self.attention(y, y, y)[0])
        return out


class OwnAttention(nn.Module):
    """Nothing of torch's says which dimension is which."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.norm, self.first = nn.LayerNorm(C), first

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y = y if self.first else y.transpose(0, 1)
        out: Tensor = torch.softmax(y @ y.transpose(1, 2), -1) @ y
        return out if self.first else out.transpose(0, 1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.norm = nn.GRU(C, C), nn.LayerNorm(C)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.cells(x)[0])
        return out


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(C, 2, 16, dropout=0.0), 2, nn.LayerNorm(C)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x, x * 2)
        return out


BODIES: dict[str, Callable[[], nn.Module]] = {
    "encoder layer": lambda: Around(nn.TransformerEncoderLayer(C, 2, 16, dropout=0.0)),
    "encoder": lambda: Around(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(C, 2, 16, dropout=0.0), 2, nn.LayerNorm(C), False)
    ),
    "decoder": lambda: Around(Decoder()),
    "batch first": lambda: Around(nn.TransformerEncoderLayer(C, 2, 16, dropout=0.0, batch_first=True), True),
    "block": lambda: Around(ClipBlock()),
    "own attention": lambda: Around(OwnAttention(False)),
    "own attention, samples first": lambda: Around(OwnAttention(True), True),
    "recurrent": lambda: Around(Recurrent()),
}


@pytest.mark.parametrize("length", [N, 1, 4, 5 * N + 3])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("body", BODIES)
def test_each_sample_takes_its_route(body: str, selection: str, length: int) -> None:
    torch.manual_seed(0)
    model = randomise(convert(BODIES[body](), "sabn")).train()
    chosen, routes = SELECTIONS[selection]
    x = torch.rand(N, length, 6)
    whole = [through(model, name, x) for name in ("clean", "adv")]
    expected = torch.stack([whole[r][n] for n, r in enumerate(routes)])
    assert not torch.allclose(whole[0], whole[1])
    found = through(model, chosen, x)
    torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad(out.square().sum(), list(model.parameters()), allow_unused=True)
        for out in (found, expected)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


class Pyramid(nn.Module):
    """Images whose height equals their number in some stage: convolutions before a norm on (N, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.batch, self.norm = nn.Conv2d(3, C, 1), nn.BatchNorm2d(C), nn.LayerNorm(C)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.batch(self.conv(x)))
        out: Tensor = self.norm(x.permute(0, 2, 3, 1)).mean((1, 2))
        return out


def test_the_question_is_asked_without_a_trace() -> None:
    model = convert(Pyramid(), "saauxbn").train()
    seen: list[Tensor] = []

    def note(module: nn.Module, args: Any, out: Tensor) -> None:
        seen.append(out)

    model.get_submodule("conv").register_forward_hook(note)
    known = copy.deepcopy(model)
    layer = known.get_submodule("norm")
    assert isinstance(layer, RoutedLayerNorm)
    layer.batch_dim = 0
    x = torch.rand(N, 3, N, N)
    outs = []
    for net in (known, model):
        torch.manual_seed(1)
        outs.append((through(net, Split(clean=2, adv=4), x), torch.rand(2)))
    assert torch.equal(outs[0][0], outs[1][0])
    assert torch.equal(outs[0][1], outs[1][1])
    for name, value in known.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert [out.shape for out in seen] == [(N, C, N, N)] * 2  # one of each network
    assert model.get_submodule("norm").batch_dim == 0


class Folding(nn.Module):
    """Several windows of each image in the batch, each of as many positions as there are images."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1).reshape(-1, N, 3)
        out: Tensor = self.norm(x).mean(1)
        return out.reshape(N, -1, 3).mean(1)


class Deciding(nn.Module):
    """Looks at its data, and so cannot be asked without."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.transpose(0, 1) if float(x.sum()) > 0 else -x.transpose(0, 1))
        return out.mean(0)


def test_what_cannot_be_told_is_refused_and_can_be_said() -> None:
    with pytest.raises(RouteError, match=r"which dimension holds them is not clear.*forward=separate"):
        through(convert(Folding()), Split(clean=2, adv=4), torch.rand(N, 3, 12, 4))
    deciding, x = randomise(convert(Deciding())), torch.rand(N, N, 6)
    with pytest.raises(RouteError, match=r"set layer\.batch_dim"):
        through(deciding, Split(clean=2, adv=4), x)
    layer: Any = deciding.get_submodule("norm")
    layer.batch_dim = 1
    whole = [through(deciding, name, x) for name in ("clean", "adv")]
    torch.testing.assert_close(
        through(deciding, Split(clean=2, adv=4), x), torch.cat([whole[0][:2], whole[1][2:]])
    )
    with route(deciding, Split(clean=2, adv=4)), pytest.raises(RouteError, match="not clear"):
        layer(torch.rand(N, 6))  # has no such dimension


def test_a_part_that_is_called_by_itself_is_not_taken_for_the_model() -> None:
    model = convert(Around(OwnAttention(False)))
    with route(model, Split(clean=2, adv=4)), pytest.raises(RouteError, match="not clear"):
        model.body(torch.rand(N, N, C))  # type: ignore[operator]


def test_wrapped_models_and_the_compiler_know_what_was_found() -> None:
    model = randomise(convert(Around(OwnAttention(False)))).eval()
    x = torch.rand(N, N, 6)
    expected = through(model, Split(clean=2, adv=4), x)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with route(model, Split(clean=2, adv=4)):
        torch.testing.assert_close(compiled(x), expected)
    twin = copy.deepcopy(model)
    assert all(layer.batch_dim == 1 for layer in twin.modules() if isinstance(layer, RoutedLayerNorm))
    wrapped = nn.DataParallel(
        convert(Around(OwnAttention(False)))
    )  # on a machine without GPUs it calls its module
    if not torch.cuda.is_available():
        wrapped.module.load_state_dict(model.state_dict())
        torch.testing.assert_close(through(wrapped, Split(clean=2, adv=4), x), expected)
