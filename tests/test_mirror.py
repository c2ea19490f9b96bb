"""A folded copy that follows its network: after the weights moved it computes what a fresh copy would."""

import pytest
import torch
from randomise import randomise
from torch import nn

from robustsabn import convert, route
from robustsabn.attacks.folding import mirrored
from robustsabn.models import build


@pytest.mark.parametrize("norm", ["none", "bn", "sabn", "saauxbn"])
@pytest.mark.parametrize("name", ["resnet-digits", "preact-resnet18"])
def test_the_copy_follows_weights_and_statistics(name: str, norm: str) -> None:
    channels = 1 if name == "resnet-digits" else 3
    model = randomise(build(name, 10, channels))
    routed = model if norm == "none" else convert(model, norm=norm)
    x = torch.rand(4, channels, 16, 16)
    selection = None if norm == "none" else "adv"

    def compare() -> None:
        assert mirror is not None
        routed.eval()
        torch.testing.assert_close(mirror.network(x), routed(x), rtol=1e-4, atol=1e-4)

    with torch.no_grad(), route(routed, selection) if selection else torch.no_grad():
        mirror = mirrored(routed, x)
        assert mirror is not None
        assert not mirror.why
        assert mirror.folds
        compare()
        before = mirror.network(x)
        for parameter in routed.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
        routed.train()
        for _ in range(3):
            routed(torch.rand(8, channels, 16, 16))
        mirror.refresh(routed)
        assert not torch.allclose(mirror.network(x), before, rtol=1e-2)
        compare()


def test_there_is_none_where_copies_are_not_safe() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    model.register_forward_hook(lambda *_: None)
    assert mirrored(model, torch.rand(2, 1, 2, 2)) is None
