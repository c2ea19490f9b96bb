"""Communication between the processes of one run."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from robustsabn.errors import ConfigError, RobustsabnError
from robustsabn.layers import RoutedBatchNorm
from robustsabn.text import one_line
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.processes.launching import check_environment
from robustsabn.trainers.tracking.trackers import check_trackers

__all__ = [
    "Network",
    "accelerator",
    "average_over_processes",
    "average_statistics",
    "every_statistics",
    "gathered",
    "launch_note",
    "prepare",
    "reduced",
    "restore_statistics",
    "running_statistics",
    "shared",
    "start",
]

T = TypeVar("T")
SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM")


def start(config: RunConfig) -> Accelerator:
    """The accelerator of this process; several runs may follow each other in one process.

    Raises ConfigError for settings that the machine or the installed packages do not allow.
    """
    check_trackers(config.trackers)
    if config.precision == "fp16" and (config.device == "cpu" or not torch.accelerator.is_available()):
        raise ConfigError("precision: fp16 needs a GPU; allowed here are fp32 and bf16")
    return accelerator(config.device == "cpu", {"fp32": "no"}.get(config.precision, config.precision))


def accelerator(cpu: bool, precision: str = "no") -> Accelerator:
    """The accelerator of this process, on its GPU unless `cpu`.

    Raises ConfigError if parameters would be sharded (FSDP, DeepSpeed, Megatron-LM), or if the launcher's
    environment variables are invalid.
    """
    check_environment()
    # otherwise all later runs would use precision and device of the first
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    try:
        this = Accelerator(mixed_precision=precision, cpu=cpu)
        if this.distributed_type.value not in SHARDED:
            torch.empty(0, device=this.device)
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, LookupError, RuntimeError, ValueError) as error:
        variables = ", ".join(sorted(name for name in os.environ if name.startswith("ACCELERATE_")))
        raise ConfigError(
            f"accelerate cannot start ({one_line(error)}); correct or unset "
            f"{variables or 'the variables of the launcher'}"
        ) from error
    if this.distributed_type.value in SHARDED:
        raise ConfigError(
            f"accelerate is set up for {this.distributed_type.value}; attacks need whole parameters on every"
            " process: choose multi-GPU without it in `accelerate config`"
        )
    if cpu and this.device.type != "cpu":
        raise ConfigError(f"device is cpu, but ACCELERATE_TORCH_DEVICE selects {this.device}; unset it")
    return this


def launch_note(accelerator: Accelerator, environment: Mapping[str, str] = os.environ) -> str | None:
    """A hint if a launcher should start several processes on the CPU and started only one.

    `accelerate launch --cpu --num_processes 2` sets a port for the processes, but starts them only through
    MPI.
    """
    several = environment.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in environment
    if accelerator.num_processes > 1 or not several or "WORLD_SIZE" in environment:
        return None
    return (
        "accelerate launch --cpu started one process only; the run is the same, but for several processes "
        "start torchrun --nproc_per_node N -m robustsabn train … device=cpu"
    )


def shared(accelerator: Accelerator, make: Callable[[], T]) -> T:
    """Call `make` on the main process; every process gets its result or raises its error."""
    outcome: list[T | Exception | None] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [make()]
        except (RobustsabnError, OSError) as error:
            outcome = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]  # type: ignore[return-value]


def reduced(accelerator: Accelerator, tensor: Tensor, how: Literal["sum", "mean"]) -> Tensor:
    """The sum or mean of `tensor` over the processes, on all of them."""
    total = accelerator.reduce(tensor, how)
    assert isinstance(total, Tensor)
    return total


def gathered(accelerator: Accelerator, share: Tensor) -> Tensor:
    """The shares (n, ...) of all processes, concatenated in order, on all of them."""
    whole = accelerator.gather(share)
    assert isinstance(whole, Tensor)
    return whole


@dataclass(frozen=True)
class Network:
    """A network of a run: `raw`, and `wrapped` to average its gradients over the processes."""

    raw: nn.Module
    wrapped: nn.Module


def prepare(
    accelerator: Accelerator, models: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> tuple[dict[str, Network], dict[str, Optimizer]]:
    """Networks on the device, as they are and wrapped, and optimisers for the precision.

    `models` are moved to the device in place and stay float32 modules; autocast is used in single forward
    passes.
    """
    prepared = accelerator.prepare(*models.values(), *optimizers.values())
    networks = {name: Network(raw, each) for (name, raw), each in zip(models.items(), prepared, strict=False)}
    for network in networks.values():
        accelerator.unwrap_model(network.wrapped, keep_fp32_wrapper=False)
        if isinstance(network.wrapped, DistributedDataParallel):
            # each process keeps its own running statistics until they are averaged; broadcasting those of
            # rank 0 at every forward pass would discard those of the others
            network.wrapped.broadcast_buffers = False
    return networks, dict(zip(optimizers, prepared[len(models) :], strict=True))


def every_statistics(accelerator: Accelerator, model: nn.Module) -> dict[str, Tensor]:
    """The running statistics of every process, (processes, ...) by name; empty with one process."""
    if accelerator.num_processes == 1:
        return {}
    own = {name: b for name, b in running_statistics(model).items() if b.is_floating_point()}
    return {name: gathered(accelerator, buffer[None]) for name, buffer in own.items()}


@torch.no_grad()
def restore_statistics(accelerator: Accelerator, model: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """Load this process's running statistics from those that `every_statistics` returned.

    Nothing is loaded if the number of processes has changed.
    """
    for name, buffer in running_statistics(model).items():
        if name in stored and len(stored[name]) == accelerator.num_processes:
            buffer.copy_(stored[name][accelerator.process_index])


@torch.no_grad()
def average_statistics(accelerator: Accelerator, model: nn.Module) -> None:
    """Average the running statistics of batch norms over the processes, in place.

    All processes have seen equally many batches, so the counters are equal already.
    """
    if accelerator.num_processes == 1:
        return
    for buffer in running_statistics(model).values():
        if buffer.is_floating_point():
            buffer.copy_(reduced(accelerator, buffer, "mean"))


@torch.no_grad()
def average_over_processes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over the processes, by one collective operation.

    With one process, the tensors themselves.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not tensors or not distributed or torch.distributed.get_world_size() == 1:
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(flat)
    parts = (flat / torch.distributed.get_world_size()).split_with_sizes(
        [tensor.numel() for tensor in tensors]
    )
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """The running statistics of a model and their counters, by their names in its state dict."""
    kinds = (nn.modules.batchnorm._NormBase, RoutedBatchNorm)
    return {
        f"{place}.{name}".lstrip("."): buffer
        for place, module in model.named_modules()
        if isinstance(module, kinds)
        for name, buffer in module.named_buffers(recurse=False)
    }
