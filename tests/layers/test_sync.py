"""Statistics over two processes equal those of one process that holds the whole batch."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from robustsabn import Blend, Split, route
from robustsabn.layers import PRESETS
from robustsabn.routing import Selection
from tests.helpers.layer_reference import batch_norm64, make, running64

SIZES = (3, 5)
# What each process selects, and the routes of its samples.
CASES: dict[str, list[tuple[Selection, list[int]]]] = {
    "index": [(1, [1] * 3), (1, [1] * 5)],
    "per-sample": [(torch.tensor([0, 1, 1]), [0, 1, 1]), (torch.tensor([1, 0, 0, 1, 0]), [1, 0, 0, 1, 0])],
    "split": [(Split(clean=1, adv=2), [0, 1, 1]), (Split(clean=4, adv=1), [0, 0, 0, 0, 1])],
    "split with an empty part": [(Split(clean=0, adv=3), [1] * 3), (Split(clean=2, adv=3), [0, 0, 1, 1, 1])],
    "split with a part empty everywhere": [
        (Split(clean=0, adv=3), [1] * 3),
        (Split(clean=0, adv=5), [1] * 5),
    ],
}


def work(rank: int, rendezvous: str, out: str) -> None:
    """One process: its part of the batch through every preset and selection; writes what it got."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    results: dict[str, dict[str, Any]] = {}
    for preset in PRESETS:
        for case, parts in CASES.items():
            torch.manual_seed(1)
            layer = make(preset, sync=True)
            x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
            g = torch.randn_like(x)
            own = slice(0, 3) if rank == 0 else slice(3, 8)
            mine = x[own].clone().requires_grad_()
            with route(layer, parts[rank][0]):
                y = layer(mine)
            y.backward(g[own])
            grads = {name: p.grad for name, p in layer.named_parameters()}
            results[f"{preset}/{case}"] = {
                "y": y.detach(),
                "gx": mine.grad,
                "grads": grads,
                "statistics": [layer.running_mean, layer.running_var],
            }
    layer = make("saauxbn", sync=True).eval()
    with route(layer, Blend(clean=0.5, adv=0.5)):
        layer(
            torch.randn(2, 3, 4, 4, dtype=torch.float64)
        )  # eval mode communicates nothing: ranks may differ
        if rank == 0:
            layer(torch.randn(2, 3, 4, 4, dtype=torch.float64))
    torch.save(results, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    folder: Path = tmp_path_factory.mktemp("sync")
    context = multiprocessing.get_context("fork")
    arguments = (str(folder / "rendezvous"), str(folder))
    workers = [context.Process(target=work, args=(rank, *arguments)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("preset", PRESETS)
def test_two_processes_equal_one(results: list[dict[str, dict[str, Any]]], preset: str, case: str) -> None:
    torch.manual_seed(1)
    layer = make(preset)
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    g = torch.randn_like(x)
    x.requires_grad_()
    routes = [r for _, part in CASES[case] for r in part]
    expected = batch_norm64(layer, x, routes, True)
    statistics = running64(layer, x.detach(), routes, 0.1)
    torch.autograd.backward(expected, g)
    got = [result[f"{preset}/{case}"] for result in results]
    torch.testing.assert_close(torch.cat([r["y"] for r in got]), expected.detach())
    torch.testing.assert_close(torch.cat([r["gx"] for r in got]), x.grad)
    for name, parameter in layer.named_parameters():
        zero = torch.zeros_like(parameter)
        total = sum((r["grads"][name] if r["grads"][name] is not None else zero for r in got), zero)
        torch.testing.assert_close(total, zero if parameter.grad is None else parameter.grad)
    for rank in (0, 1):
        for a, b in zip(got[rank]["statistics"], statistics, strict=True):
            torch.testing.assert_close(a, b)
