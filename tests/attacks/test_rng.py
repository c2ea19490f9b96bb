"""Counter-based randomness: the reference is the generator in plain Python integers."""

import math

import pytest
import torch

from robustsabn.attacks import rng

MASK = (1 << 64) - 1


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def key(seed: int, sample: int, *counters: int) -> int:
    value = mix((sample + mix(seed & MASK)) & MASK)
    for counter in counters:
        value = mix((value * 0x9E3779B97F4A7C15 + counter) & MASK)
    return value


def test_published_vectors_of_the_mixer() -> None:
    # the first outputs of SplitMix64 seeded with 1234567, as published with the generator
    bits = rng._bits(torch.tensor([1234567]), (3,), 0)[0].tolist()
    assert [b & MASK for b in bits] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("seed", [0, 1, -5, 2**63, 2**64 - 1])
def test_equals_the_reference_in_python_integers(seed: int) -> None:
    ids, run = torch.tensor([0, 7, 2**40]), torch.tensor([3, 0, 1])
    keys = rng.stream(seed, ids, 2, run, 99)
    expected = [key(seed, i, 2, r, 99) for i, r in zip(ids.tolist(), run.tolist(), strict=True)]
    assert [k & MASK for k in keys.tolist()] == expected
    drawn = rng.uniform(keys, (2, 2)).flatten(1)
    for row, start in enumerate(expected):
        for element in range(4):
            bits = mix((start + (element + 1) * 0x9E3779B97F4A7C15) & MASK)
            assert drawn[row, element].item() == (bits >> 40) / 2**24


def test_a_sample_keeps_its_draws_in_any_batch() -> None:
    ids = torch.arange(50)
    together = rng.normal(rng.stream(3, ids, 1), (3, 5))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rng.normal(rng.stream(3, order, 1), (3, 5)), together[order])
    assert torch.equal(rng.normal(rng.stream(3, ids[4:5], 1), (3, 5)), together[4:5])


def test_no_generator_of_torch_is_touched() -> None:
    before = torch.get_rng_state()
    rng.normal(rng.stream(0, torch.arange(4)), (8,))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_argument_changes_the_draws() -> None:
    ids = torch.arange(4)
    keys = [
        rng.stream(*arguments)
        for arguments in [(0, ids, 0, 0), (1, ids, 0, 0), (0, ids + 4, 0, 0), (0, ids, 1, 0), (0, ids, 0, 1)]
    ]
    assert len(set(torch.cat(keys).tolist())) == 20


def uniform_distance(sample: torch.Tensor) -> float:
    """Kolmogorov-Smirnov statistic against U(0, 1), times the square root of the count."""
    ordered, count = sample.double().sort().values, sample.numel()
    above = (torch.arange(1, count + 1) / count - ordered).abs().max()
    return float(above * math.sqrt(count))


def test_uniform_in_distribution_across_elements_and_across_samples() -> None:
    draws = rng.uniform(rng.stream(0, torch.arange(400), 5, 0), (500,))
    assert 0 <= draws.min() < draws.max() < 1
    assert uniform_distance(draws.flatten()) < 1.63  # the 1 % point
    assert max(uniform_distance(draws[:, j]) for j in range(20)) < 2.3
    assert max(uniform_distance(draws[i]) for i in range(20)) < 2.3


@pytest.mark.parametrize("along", ["samples", "elements", "iterations", "seeds"])
def test_neighbouring_draws_are_uncorrelated(along: str) -> None:
    ids, count = torch.arange(4000), 4000
    one = rng.uniform(rng.stream(0, ids, 0, 0), (2,))[:, 0]
    other = {
        "samples": one.roll(1),
        "elements": rng.uniform(rng.stream(0, ids, 0, 0), (2,))[:, 1],
        "iterations": rng.uniform(rng.stream(0, ids, 0, 1), (2,))[:, 0],
        "seeds": rng.uniform(rng.stream(1, ids, 0, 0), (2,))[:, 0],
    }[along]
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1].item()) < 4 / math.sqrt(count)


def test_normal_moments_and_tail() -> None:
    z = rng.normal(rng.stream(0, torch.arange(200), 0), (1000,)).double().flatten()
    count = z.numel()
    assert abs(z.mean().item()) < 4 / math.sqrt(count)
    assert abs(z.var().item() - 1) < 4 * math.sqrt(2 / count)
    assert abs((z**4).mean().item() - 3) < 4 * math.sqrt(96 / count)
    assert uniform_distance(torch.special.ndtr(z)) < 1.63
    assert z.isfinite().all()


def test_signs_are_balanced() -> None:
    drawn = rng.signs(rng.stream(0, torch.arange(300), 0), (3, 1, 100))
    assert set(drawn.flatten().tolist()) == {-1.0, 1.0}
    assert abs(drawn.mean().item()) < 4 / math.sqrt(drawn.numel())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu() -> None:
    ids = torch.arange(64)
    here, there = (rng.stream(9, ids.to(place), 1, 2) for place in ("cpu", "cuda"))
    assert torch.equal(here, there.cpu())
    assert torch.equal(rng.uniform(here, (3, 8, 8)), rng.uniform(there, (3, 8, 8)).cpu())
    assert torch.equal(rng.signs(here, (3, 8, 8)), rng.signs(there, (3, 8, 8)).cpu())
    torch.testing.assert_close(
        rng.normal(here, (3, 8, 8)), rng.normal(there, (3, 8, 8)).cpu(), rtol=2e-7, atol=0
    )
