"""Synchronised statistics of nothing, of one value and of half precision, over two processes."""

from __future__ import annotations

import copy
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from robustsabn import Split, route
from robustsabn.errors import RouteError
from robustsabn.layers import sync
from robustsabn.routing import Selection
from tests.helpers.layer_reference import batch_norm64, make

NOTHING: dict[str, Selection] = {
    "whole": 1,
    "split": Split(clean=0, adv=0),
    "per sample": torch.zeros(0, dtype=torch.long),
}
ROUTES = {"whole": [1] * 6, "split": [0, 1, 0, 0, 1, 1], "per sample": [0, 1, 1, 0, 1, 1]}


def selected(kind: str, routes: list[int]) -> Selection:
    if kind == "split":
        return Split(clean=routes.count(0), adv=routes.count(1))
    return 1 if kind == "whole" else torch.tensor(routes)


def nothing(kind: str) -> bool:
    """Whether running statistics and counts of routes stay as they are when no process has a sample."""
    layer = make("saauxbn", sync=True)
    before = copy.deepcopy(layer)
    with route(layer, NOTHING[kind]):
        layer(torch.randn(0, 3, 4, 4, dtype=torch.float64))
    return all(
        torch.equal(now, then)
        for (name, now), then in zip(layer.named_buffers(), before.buffers(), strict=True)
        if kind != "whole" or "running" in name  # torch, too, counts a whole batch of nothing
    )


def one_value(kind: str, first: int) -> str:
    """What a layer says to `first` values of route 0, and more of route 1, on this process."""
    layer = make("saauxbn", sync=True)
    try:
        with route(layer, selected(kind, [0] * first + [1] * (3 - first))):
            layer(torch.randn(3, 3, 1, 1, dtype=torch.float64))
    except RouteError as error:
        return str(error)
    return "taken"


def half(kind: str, rank: int) -> Tensor:
    """This process's part of the output in bfloat16, far from zero."""
    torch.manual_seed(3)
    layer, x = make("saauxbn", torch.float32, sync=True), (torch.randn(6, 3, 4, 4) + 20).bfloat16()
    own = slice(0, 2) if rank == 0 else slice(2, 6)
    with torch.no_grad(), route(layer, selected(kind, ROUTES[kind][own])):
        out: Tensor = layer(x[own])
    return out


def work(rank: int, rendezvous: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    results = {
        "nothing": {kind: nothing(kind) for kind in NOTHING},
        "one value": {kind: one_value(kind, 1 - rank) for kind in ("split", "per sample")},
        "two values": {kind: one_value(kind, 1) for kind in ("split", "per sample")},
        "half": {kind: half(kind, rank) for kind in ROUTES},
    }
    torch.save(results, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    folder: Path = tmp_path_factory.mktemp("sync")
    arguments = (str(folder / "rendezvous"), str(folder))
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(rank, *arguments)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("kind", NOTHING)
def test_no_sample_on_any_process_moves_nothing(results: list[dict[str, dict[str, Any]]], kind: str) -> None:
    assert [result["nothing"][kind] for result in results] == [True, True]


@pytest.mark.parametrize("kind", ["split", "per sample"])
def test_one_value_in_all_is_refused_by_every_process(
    results: list[dict[str, dict[str, Any]]], kind: str
) -> None:
    for result in results:
        assert "more than one value" in result["one value"][kind]
        assert result["two values"][kind] == "taken"


@pytest.mark.parametrize("kind", ROUTES)
def test_half_precision_is_rounded_once(results: list[dict[str, dict[str, Any]]], kind: str) -> None:
    torch.manual_seed(3)
    layer, x = make("saauxbn", torch.float32), (torch.randn(6, 3, 4, 4) + 20).bfloat16()
    wanted = batch_norm64(layer.double(), x.double(), ROUTES[kind], True)
    got = torch.cat([result["half"][kind] for result in results])
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), wanted, rtol=1.01 * 2**-8, atol=1e-4)


@pytest.mark.parametrize(("size", "dtype"), [(0, torch.float32), (2, torch.bfloat16)])
def test_an_empty_part_is_exchanged_in_float32(
    size: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's CUDA kernels give statistics in float32, and zeros of the dtype of an empty input."""
    seen: list[torch.dtype] = []

    class Kernels:
        @staticmethod
        def apply(x: Tensor, *_: object) -> Tensor:
            seen.append(x.dtype)
            return x

    monkeypatch.setattr("torch.nn.modules._functions.SyncBatchNorm", Kernels)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    x = torch.randn(size, 3, 4, 4).bfloat16()
    assert sync.sync_batch_norm_cuda(x, None, None, None, None, 0.1, 1e-5).dtype == torch.bfloat16
    assert seen == [dtype]
