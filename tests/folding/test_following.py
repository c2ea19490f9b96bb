"""A folded copy that follows its network: after the weights moved it computes what a fresh copy would."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from robustsabn import Blend, convert, route
from robustsabn.attacks.folding.folded_copy import following_copy
from robustsabn.models import build
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.adversarial.step.folded_copies import FoldedCopies
from tests.helpers.randomise import randomise


@pytest.mark.parametrize("norm", ["none", "bn", "sabn", "saauxbn"])
@pytest.mark.parametrize("name", ["resnet-digits", "preact-resnet18"])
def test_the_copy_follows_weights_and_statistics(name: str, norm: str) -> None:
    channels = 1 if name == "resnet-digits" else 3
    model = randomise(build(name, 10, channels))
    routed = model if norm == "none" else convert(model, norm=norm)
    x = torch.rand(4, channels, 16, 16)
    selection = None if norm == "none" else "adv"

    def compare() -> None:
        assert copy is not None
        routed.eval()
        torch.testing.assert_close(copy.network(x), routed(x), rtol=1e-4, atol=1e-4)

    with torch.no_grad(), route(routed, selection) if selection else torch.no_grad():
        copy = following_copy(routed, x)
        assert copy is not None
        assert not copy.why
        assert copy.folds
        compare()
        before = copy.network(x)
        for parameter in routed.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
        routed.train()
        for _ in range(3):
            routed(torch.rand(8, channels, 16, 16))
        copy.refresh()
        assert not torch.allclose(copy.network(x), before, rtol=1e-2)
        compare()


def test_there_is_none_where_copies_are_not_safe() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    model.register_forward_hook(lambda *_: None)
    assert following_copy(model, torch.rand(2, 1, 2, 2)) is None


def test_training_attacks_the_copy_in_eval_mode_alone() -> None:
    model = convert(build("resnet-digits", 10, 1), norm="saauxbn").train()
    mirrors, x = FoldedCopies(model, wanted=True), torch.rand(4, 1, 8, 8)
    first = mirrors.network("adv", x)
    assert first is not model
    assert mirrors.network("adv", x) is first
    assert mirrors.network("clean", x) not in (first, model)
    assert mirrors.network(Blend(clean=0.5, adv=0.5), x) is model
    assert FoldedCopies(model, wanted=False).network("adv", x) is model
    assert all(module.training for module in model.modules())
    mirrors.clear()
    assert mirrors.network("adv", x) is not first


@pytest.mark.parametrize("mode", ["eval", "train", "frozen"])
def test_an_attack_on_the_copy_finds_the_same_images(mode: str) -> None:
    model = convert(randomise(build("resnet-digits", 10, 1)), norm="saauxbn").double().train()
    x, y = torch.rand(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)
    acc, config = Accelerator(cpu=True), Attack(eps=0.1, steps=5, bn_mode=mode)  # type: ignore[arg-type]
    benches = [
        AdversarialStep(acc, model, model, config, seed=0, batch_size=8, share=slice(0, 8), fold=fold)
        for fold in (True, False)
    ]
    folded, plain = (bench.attack(x, y) for bench in benches)
    torch.testing.assert_close(folded, plain, rtol=0, atol=1e-12)
    assert bool(benches[0].folded_copies.made) == (mode == "eval")
