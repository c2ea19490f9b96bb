"""Methods on a compiled network: losses and weights of the plain one, and the graphs of docs/training.md."""

import functools
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch._functorch._aot_autograd.utils import make_boxed_func

from robustsabn.conversion.convert import convert
from robustsabn.trainers import evaluate_run, train
from robustsabn.trainers.adversarial import task
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.compiling import compile_network, compiled, many_graphs, uncompiled
from robustsabn.trainers.methods import METHODS, Bench, Method
from tests.helpers.methods import bench_for, images, network
from tests.helpers.pitfalls_worker import OPTIONS
from tests.helpers.runs import TINY

GRAPHS = {
    "standard": 1,
    "pgd": 2,
    "paired": 2,
    "trades": 4,
    "mart": 3,
    "pgd-awp": 3,
    "trades-awp": 6,
    "mart-awp": 5,
    "paired-awp": 3,
    "free": 1,
    "fgsm-rs": 2,
    "n-fgsm": 2,
    "gradalign": 2,
    "advprop": 2,
    "fast-advprop": 2,
    "oat": 5,
}
QUICK = ("pgd-awp", "gradalign", "oat")
STEPS = 6
CASES = [
    pytest.param(name, mode, marks=() if name in QUICK and mode == "eval" else pytest.mark.slow)
    for mode in ("eval", "train", "frozen")
    for name in GRAPHS
]


def trained(name: str, mode: str, backend: Any) -> tuple[list[float], dict[str, Tensor], list[int]]:
    """Losses and state after some steps, compiled by `backend` unless None, and its graphs after each."""
    model = convert(network(), norm="saauxbn").train()
    if backend is not None:
        torch._dynamo.reset()
        compile_network(model, backend=backend)
    (x, y), acc = images(8), Accelerator(cpu=True)
    attack = Attack("L2", eps=0.5, steps=2, bn_mode=mode)  # type: ignore[arg-type]
    bench = AdversarialStep(acc, model, model, attack, seed=0, batch_size=8, share=slice(0, 8), classes=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    method = cast(Method, METHODS[name](**OPTIONS.get(name, {})))
    losses, graphs = [], []
    with many_graphs(True):
        for step in range(STEPS):
            with bench.at(step):
                loss = method.losses(cast(Bench, bench), x, y)["loss"]
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            graphs.append(getattr(backend, "frame_count", 0))
    return losses, model.state_dict(), graphs


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch looks, and hides what it says
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_losses_are_those_of_the_plain_network_from_few_graphs(name: str, mode: str) -> None:
    losses, state, _ = trained(name, mode, None)
    found, found_state, graphs = trained(name, mode, CompileCounterWithBackend("aot_eager"))
    torch.testing.assert_close(found, losses, rtol=1e-6, atol=0)
    torch.testing.assert_close(found_state, state, rtol=1e-6, atol=1e-7)
    if mode == "eval":
        assert graphs[-1] == GRAPHS[name]
    assert graphs[-1] <= GRAPHS[name]
    if name != "oat":  # which meets other shares as it goes
        assert graphs[0] == graphs[-1]


def test_every_method_is_counted() -> None:
    assert set(GRAPHS) == set(METHODS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, in torch
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++")
@pytest.mark.parametrize("name", ["paired", "trades", "pgd-awp"])
def test_losses_of_inductor(name: str) -> None:
    losses, *_ = trained(name, "eval", None)
    found, *_ = trained(name, "eval", "inductor")
    torch.testing.assert_close(found, losses, rtol=1e-4, atol=1e-5)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Counts the graphs of runs."""
    torch._dynamo.reset()
    counts = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(task, "compile_network", functools.partial(compile_network, backend=counts))
    return counts


def test_a_run_compiles_its_training_and_nothing_of_its_evaluations(
    tmp_path: Path, counter: CompileCounterWithBackend
) -> None:
    config = {
        **TINY,
        "method": "paired",
        "steps": 6,
        "checkpoint_every": None,
        "attack": {"eps": 0.1, "steps": 2, "fold": False},
        "validation": {"images": 3, "steps": 1},
        "test": {"images": 23, "steps": 2, "batch_size": 10},
    }
    train({**config, "out": str(tmp_path / "plain")})
    result = train({**config, "compile": True, "out": str(tmp_path / "compiled")})
    assert counter.frame_count == GRAPHS["paired"]
    assert result.evaluation == evaluate_run(result.folder, attack="pgd-2", n=23)
    last = [read(tmp_path / name / "checkpoints", "last").tensors for name in ("plain", "compiled")]
    torch.testing.assert_close(*last, rtol=1e-6, atol=1e-7)


def test_attacks_take_no_gradients_of_weights() -> None:
    wanted: list[list[bool]] = []

    def forwards(graph: torch.fx.GraphModule, _: object) -> Any:
        return make_boxed_func(graph.forward)

    def backwards(graph: torch.fx.GraphModule, _: object) -> Any:
        for node in graph.graph.nodes:
            if "convolution_backward" in str(node.target):
                wanted.append(node.args[-1])
        return make_boxed_func(graph.forward)

    torch._dynamo.reset()
    model, (x, y) = network(), images(6)
    compile_network(model, backend=aot_autograd(fw_compiler=forwards, bw_compiler=backwards))
    bench = bench_for(model, 6)
    bench.attack(x, y)
    bench.gradient(x, y)
    assert wanted == [[True, False, False]]
    assert all(p.requires_grad for p in model.parameters())
    torch.autograd.backward(bench.forward(x, 0).sum())
    assert wanted[1:] == [[False, True, True]]


def test_more_graphs_than_torch_allows() -> None:
    class Counted(nn.Module):
        factor = 0

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    torch._dynamo.reset()
    model, counts = Counted(), CompileCounterWithBackend("eager")
    compile_network(model, backend=counts)
    with many_graphs(True):
        for model.factor in range(12):
            assert torch.equal(model(torch.ones(2)), torch.full((2,), float(model.factor)))
    assert counts.frame_count == 12


def test_the_plain_network_comes_back_for_a_while() -> None:
    torch._dynamo.reset()
    model, counts = nn.Sequential(nn.Linear(2, 2)), CompileCounterWithBackend("eager")
    compile_network(model, backend=counts)
    with uncompiled(model):
        model(torch.ones(1, 2))
        assert not compiled(model)
    assert counts.frame_count == 0
    model(
        torch.ones(1, 2)
    )  # of torch's own classes alone, whose frames torch would not compile by themselves
    assert counts.frame_count == 1
