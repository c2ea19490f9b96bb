"""Training in a process of several, watched."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from robustsabn.config import load
from robustsabn.conversion.convert import convert
from robustsabn.trainers.adversarial.config import Attack, TrainConfig
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation
from robustsabn.trainers.adversarial.step.adversarial_step import AdversarialStep
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.loop.compiling import compile_network
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.methods import METHODS, Bench, Method
from robustsabn.trainers.processes.distributed import accelerator, average_statistics, prepare
from tests.helpers.methods import images, network
from tests.helpers.runs import TINY

__all__ = ["OPTIONS", "RUN", "steps", "watch"]

N = 8
OPTIONS: dict[str, dict[str, Any]] = {
    "gradalign": {"lam": 0.2},
    "fast-advprop": {"every": 2},
    "trades-awp": {"warmup_epochs": 0},
    "mart-awp": {"warmup_epochs": 0},
}
RUN: dict[str, Any] = {**TINY, "norm": "auxbn", "attack": {"eps": 0.1, "steps": 2}, "ema": 0.9}


def collectives() -> int:
    """How often the processes have communicated so far."""
    if not dist.is_initialized():
        return 0
    return int(dist.group.WORLD._get_sequence_number_for_group())  # type: ignore[union-attr]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def steps(acc: Accelerator, name: str, sync: bool, count: int = 3, compiles: bool = False) -> dict[str, Any]:
    """Train with the method `name`: the state after every step, and the counts of communications."""
    size = N // acc.num_processes
    share = slice(size * acc.process_index, size * (acc.process_index + 1))
    x, y = images(N)
    model = convert(network(), norm="saauxbn", sync=sync).train()
    if compiles:
        compile_network(model, backend="aot_eager")
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    networks, optimizers = prepare(acc, {"model": model}, {"model": sgd})
    wrapped, optimizer = networks["model"].wrapped, optimizers["model"]
    # L2: no signs, which amplify the order of float32 sums
    attack = Attack("L2", eps=0.5, steps=2)
    bench = AdversarialStep(acc, model, wrapped, attack, seed=0, batch_size=N, share=share, classes=3)
    said = {"attack": 0, "backward": 0}

    def counted(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            before = collectives()
            result = function(*args, **kwargs)
            said[kind] += collectives() - before
            return result

        return call

    for lent in ("attack", "gradient", "predict", "noise"):
        setattr(bench, lent, counted(getattr(bench, lent), "attack"))
    method, trace = cast(Method, METHODS[name](**OPTIONS.get(name, {}))), []
    backward = counted(acc.backward, "backward")
    for step in range(count):
        with bench.at(step):
            backward(method.losses(cast(Bench, bench), x[share], y[share])["loss"])
        optimizer.step()
        optimizer.zero_grad()
        trace.append(state(model))
    average_statistics(acc, model)
    return {"trace": trace, "end": state(model), "said": said}


class Watched(AdversarialTraining):
    """Writes down what the steps of a run see."""

    stop: int | None = None

    def __init__(self, run: Run[TrainConfig]) -> None:
        self.seen: dict[str, list[Any]] = {
            "rates": [],
            "places": [],
            "validated": [],
            "averaged": [],
            "types": [],
        }
        self.phase, self.now = "?", 0
        super().__init__(run)
        for name in ("attack", "forward"):
            setattr(self.bench, name, self._during(name, getattr(self.bench, name)))
        if self.options.precision == "bf16":  # a hook keeps attacks from folding the network
            self.model.get_submodule("0").register_forward_hook(self._typed)

    def _during(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.phase = phase
            return function(*args, **kwargs)

        return call

    def _typed(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self.seen["types"].append((self.now, self.phase, str(output.dtype)))

    def step(self, step: int) -> dict[str, Tensor]:
        if step == self.stop:
            raise MemoryError
        self.now = step
        self.seen["places"].append(self.batches._places(step)[self.batches.share].clone())
        logged = super().step(step)
        self.now = step + 1
        self.seen["rates"].append(self.updates["model"].rate)
        self.seen.setdefault("states", []).append(state(self.model))
        return logged

    def validate(self, step: int, kind: str, heading: str) -> Evaluation:
        if kind == "validation":
            self.seen["validated"].append(state(self.model))
            averaged = self.averages["ema"].values
            self.seen["averaged"].append({name: value.clone() for name, value in averaged.items()})
        self.phase = "validate"
        return super().validate(step, kind, heading)


def watched(config: dict[str, Any], stop: int | None = None, resume: bool = False) -> dict[str, list[Any]]:
    """What a run saw, or if `stop`, what it saw until it was ended when that step began."""
    made: list[Watched] = []

    class Kept(Watched):
        def __init__(self, run: Run[TrainConfig]) -> None:
            super().__init__(run)
            self.stop = stop
            made.append(self)

    try:
        run(load(TrainConfig, config), Kept, resume=resume)
    except MemoryError:
        assert stop is not None
    return made[0].seen


def watch(place: Path) -> None:
    """All that the tests look at, in one launch: process r writes what it saw to `place`/r.pt."""
    torch.set_num_threads(1)
    acc = accelerator(cpu=True)
    found: dict[str, Any] = {"methods": {name: steps(acc, name, sync=True) for name in METHODS}}
    found["own"] = {name: steps(acc, name, sync=False) for name in ("trades", "pgd-awp", "fast-advprop")}
    found["compiled"] = steps(acc, "pgd-awp", sync=False, compiles=True)
    found["whole"] = watched({**RUN, "out": str(place / "whole")})
    cut = {**RUN, "out": str(place / "cut")}
    found["cut"] = [watched(cut, stop=4), watched(cut, resume=True)]
    awp = {**RUN, "method": "pgd-awp", "optim": {"lr": 0.01, "weight_decay": 0.1}, "precision": "bf16"}
    found["bf16"] = watched({**awp, "out": str(place / "bf16")})
    torch.save(found, place / f"{acc.process_index}.pt")
    dist.destroy_process_group()
