"""`route` blocks of one model: one thread at a time, and ended in the order in which they began."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustsabn import checkpoint_context, route
from robustsabn.errors import RouteError
from robustsabn.layers import RoutedBatchNorm
from tests.helpers.layer_reference import make

X = torch.randn(6, 3, 4, 4, dtype=torch.float64)


def elsewhere(function: Callable[[], object]) -> object:
    """What a function returns or raises in a thread of its own."""
    found: list[object] = []

    def work() -> None:
        try:
            found.append(function())
        except RouteError as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    return found[0]


def through(model: nn.Module, name: str | int) -> Tensor:
    with route(model, name):
        out: Tensor = model(X)
    return out


def test_a_second_thread_is_refused_and_the_first_goes_on() -> None:
    model = make("saauxbn").eval()
    adv = through(model, "adv")
    with route(model, "adv"):
        with route(model, "clean"):  # nests on its own thread
            assert "one thread at a time" in str(elsewhere(lambda: through(model, "clean")))
        assert isinstance(elsewhere(lambda: through(model, "adv")), RouteError)
        assert torch.equal(model(X), adv)
    assert torch.equal(elsewhere(lambda: through(model, "adv")), adv)  # type: ignore[arg-type]  # a tensor
    assert torch.equal(through(model, "adv"), adv)


def test_a_block_that_ended_in_an_error_leaves_the_model_free() -> None:
    model = make("saauxbn").eval()
    with pytest.raises(KeyError), route(model, "adv"):
        raise KeyError
    with pytest.raises(RouteError, match="no route"), route(model, "avd"):
        pass
    assert isinstance(elsewhere(lambda: through(model, "adv")), Tensor)


def test_of_two_routers_none_is_kept_when_one_is_taken() -> None:
    first, second = make("saauxbn").eval(), make("saauxbn").eval()
    both = nn.ModuleList([first, second])
    with route(second, "adv"):
        assert isinstance(elsewhere(lambda: route(both, "adv").__enter__()), RouteError)
    assert isinstance(elsewhere(lambda: through(first, "adv")), Tensor)


def test_replicas_in_threads_take_the_route_of_the_block() -> None:
    """What DataParallel does: shallow copies run in threads, under the block of the thread that made them."""
    model = make("saauxbn").eval()
    adv = through(model, "adv")
    with route(model, "adv"):
        replica = model._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            setattr(replica, name, value.detach())  # as torch does
        assert torch.equal(elsewhere(lambda: replica(X)), adv)  # type: ignore[arg-type]  # a tensor
        assert isinstance(elsewhere(lambda: through(replica, "clean")), RouteError)


def test_copies_belong_to_any_thread() -> None:
    model = make("saauxbn").eval()
    with route(model, "adv"):
        twin = copy.deepcopy(model)
        assert isinstance(elsewhere(lambda: through(twin, "adv")), Tensor)


def test_a_forked_process_may_go_on() -> None:
    model = make("saauxbn").eval()

    def go_on() -> None:
        torch.set_num_threads(1)  # OpenMP has no other threads in a forked process, and waits for them
        through(model, "clean")

    with route(model, "adv"):
        child = multiprocessing.get_context("fork").Process(target=go_on)
        child.start()
        child.join(20)
    assert child.exitcode == 0


def test_a_recomputation_in_backward_may_choose_a_route() -> None:
    """On CUDA it runs on a thread of autograd's, while the first thread waits inside its block."""
    model = make("saauxbn")
    x = X.clone().requires_grad_()

    def block(t: Tensor) -> Tensor:
        with route(model, "clean"):
            out: Tensor = model(t)
        return out

    with route(model, "adv"):
        checkpoint(block, x, use_reentrant=False, context_fn=checkpoint_context(model)).sum().backward()
    assert x.grad is not None


def stream(model: RoutedBatchNorm, name: str) -> Iterator[Tensor]:
    with route(model, name):
        while True:
            yield model(X)


def test_blocks_that_overlap_are_an_error_and_leave_no_route() -> None:
    model = make("saauxbn").eval()
    clean = model(X)
    adv, other = stream(model, "adv"), stream(model, "clean")
    next(adv)
    next(other)
    adv.close()  # type: ignore[attr-defined]  # a generator
    with pytest.raises(RouteError, match="ended before"), route(model, "adv"):
        other.close()  # type: ignore[attr-defined]  # a generator
    assert torch.equal(model(X), clean)
    assert isinstance(elsewhere(lambda: through(model, "adv")), Tensor)


def test_coroutines_that_take_turns_inside_their_blocks_are_an_error() -> None:
    model = make("saauxbn").eval()

    async def serve(name: str, turns: int) -> Tensor:
        with route(model, name):
            for _ in range(turns):
                await asyncio.sleep(0)
            out: Tensor = model(X)
        return out

    async def both() -> list[Tensor | BaseException]:
        return list(await asyncio.gather(serve("adv", 1), serve("clean", 2), return_exceptions=True))

    assert all(isinstance(answer, RouteError) for answer in asyncio.run(both()))
    assert torch.equal(asyncio.run(serve("adv", 2)), through(model, "adv"))
