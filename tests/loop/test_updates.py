"""Learning rates against torch's schedulers, the paper's warm-up, optimisers, and stateless randomness."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LRScheduler, MultiStepLR, OneCycleLR

from robustsabn import convert
from robustsabn.errors import ConfigError
from robustsabn.trainers.config import (
    AdamW,
    Constant,
    Cosine,
    Cyclic,
    MultiStep,
    OneCycle,
    Optim,
    Schedule,
    Sgd,
)
from robustsabn.trainers.loop.draws import derive, epoch_order, generator, restored
from robustsabn.trainers.loop.updates import build_optimizer, learning_rate, set_learning_rate


def ours(schedule: Schedule, total: int, peak: float = 0.1) -> list[float]:
    return [learning_rate(schedule, peak, step, total) for step in range(total)]


def theirs(scheduler: LRScheduler, total: int) -> list[float]:
    rates = []
    for _ in range(total):
        rates.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def sgd() -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


def test_cosine_is_torchs() -> None:
    expected = theirs(CosineAnnealingLR(sgd(), 50, eta_min=0.001), 50)
    assert ours(Cosine(final=0.01), 50) == pytest.approx(expected, rel=1e-9)


def test_multistep_is_torchs() -> None:
    expected = theirs(MultiStepLR(sgd(), [50, 150], 0.1), 200)
    assert ours(MultiStep(milestones=(50 / 200, 150 / 200)), 200) == pytest.approx(expected)
    awkward = theirs(MultiStepLR(sgd(), [100, 105], 0.1), 110)
    assert ours(MultiStep(milestones=(100 / 110, 105 / 110)), 110) == pytest.approx(awkward)


def test_one_cycle_is_torchs() -> None:
    scheduler = OneCycleLR(sgd(), max_lr=0.1, total_steps=100, cycle_momentum=False)
    assert ours(OneCycle(), 100) == pytest.approx(theirs(scheduler, 100), rel=1e-6)


@pytest.mark.parametrize("peak", [0.5, 0.4, 0.37])
def test_cyclic_is_torchs(peak: float) -> None:
    up = round(100 * peak)
    scheduler = CyclicLR(sgd(), 0, 0.2, up, 100 - up, cycle_momentum=False)
    assert ours(Cyclic(peak=peak), 100, 0.2) == pytest.approx(theirs(scheduler, 100), rel=1e-9)


def test_cyclic_under_a_warm_up() -> None:
    rates = ours(Cyclic(warmup_steps=8, warmup_start=0.1), 10, 1.0)
    assert rates == pytest.approx([0, 0.2, 0.325, 0.4375, 0.55, 0.6625, 0.775, 0.6, 0.4, 0.2])


@pytest.mark.parametrize(
    "schedule",
    [
        OneCycle(),
        OneCycle(peak=0.01),
        OneCycle(peak=0.5),
        Cyclic(),
        Cyclic(peak=0.01),
        Cosine(),
        MultiStep(),
        Constant(),
    ],
)
def test_the_shortest_runs_have_a_finite_rate(schedule: Schedule) -> None:
    for total in (1, 2, 3):
        assert all(0 <= rate <= 0.1 for rate in ours(schedule, total))


def test_warm_up_is_the_papers() -> None:
    # official code: min(0.1, 0.01 + it * 0.09 / 200)
    rates = ours(MultiStep(warmup_steps=200, warmup_start=0.1, milestones=(0.25, 0.75)), 1000)
    assert rates[:250] == pytest.approx([min(0.1, 0.01 + it * 0.09 / 200) for it in range(250)])
    assert rates[250] == pytest.approx(0.01)


def test_optimisers_take_their_options() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    plain = build_optimizer(model, Sgd(lr=0.3, nesterov=True))
    assert isinstance(plain, torch.optim.SGD)
    group = plain.param_groups[0]
    assert len(group["params"]) == 1
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (
        0.3,
        0.9,
        True,
        5e-4,
    )
    adam = build_optimizer(model, AdamW(betas=(0.8, 0.9)))
    assert isinstance(adam, torch.optim.AdamW)
    assert adam.param_groups[0]["betas"] == (0.8, 0.9)


@pytest.mark.parametrize("norm", ["sabn", "auxbn", "saauxbn"])
@pytest.mark.parametrize("config", [Sgd(decay="weights"), AdamW(decay="weights")])
def test_decay_can_spare_vectors_and_the_tables_of_routes(norm: str, config: Optim) -> None:
    inner = nn.LayerNorm([2, 4, 4]), nn.Flatten(), nn.Linear(32, 3)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), convert(nn.BatchNorm2d(2), norm=norm), *inner)
    optimizer = build_optimizer(model, config)
    names = {p: name for name, p in model.named_parameters()}
    decayed, spared = ([names[p] for p in group["params"]] for group in optimizer.param_groups)
    assert decayed == ["0.weight", "4.weight"]
    assert sorted(decayed + spared) == sorted(names.values())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [config.weight_decay, 0]
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sgd(lr=0), "lr must be positive"),
        (lambda: Sgd(momentum=0, nesterov=True), "nesterov needs momentum"),
        (lambda: AdamW(betas=(0.9, 1.0)), "betas must be"),
        (lambda: Sgd(clip=0), "clip must be positive"),
        (lambda: MultiStep(milestones=(0.75, 0.5)), "milestones are rising"),
        (lambda: MultiStep(milestones=(50,)), "milestones are rising"),
        (lambda: OneCycle(peak=1), "peak must be"),
        (lambda: Cyclic(peak=0), "peak must be"),
        (lambda: Cosine(final=2), "final must be"),
        (lambda: Constant(warmup_steps=-1), "warmup_steps must be"),
    ],
)
def test_ranges(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=words):
        make()


def test_draws_depend_on_every_argument_and_on_nothing_else() -> None:
    seeds = {
        derive(s, p, *i)
        for s in (0, 1)
        for p in ("attack", "augment")
        for i in ((), (1,), (2,), (1, 2), (12,))
    }
    assert len(seeds) == 20
    assert all(0 <= seed < 2**63 for seed in seeds)
    first = torch.rand(5, generator=generator("cpu", 3, "attack", 7))
    torch.rand(1)
    assert torch.equal(first, torch.rand(5, generator=generator("cpu", 3, "attack", 7)))


def test_epochs_are_different_permutations() -> None:
    orders = [epoch_order(100, 0, epoch) for epoch in range(3)]
    assert all(torch.equal(order.sort().values, torch.arange(100)) for order in orders)
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[2], epoch_order(100, 0, 2))


def test_global_generators_are_left_as_they_were() -> None:
    before = torch.get_rng_state()
    with restored():
        torch.manual_seed(5)
        torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
