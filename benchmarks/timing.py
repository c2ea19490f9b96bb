"""Alternating measurements, medians, and a table with hardware and versions, for all benchmarks."""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

__all__ = ["alternate", "machine", "ratios", "saved_bytes", "write_table"]


def alternate(
    runs: Mapping[str, Callable[[], object]],
    rounds: int = 30,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median milliseconds of each run by `clock`, all runs taking turns in every round."""
    times = _take_turns(runs, rounds, warmup, clock)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def ratios(
    runs: Mapping[str, Callable[[], object]],
    rounds: int = 30,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, tuple[float, float]]:
    """Of each run the median milliseconds, and the median ratio to the first run of the same round."""
    times = _take_turns(runs, rounds, warmup, clock)
    base = next(iter(times.values()))
    return {
        name: (
            1e3 * statistics.median(values),
            statistics.median(value / other for value, other in zip(values, base, strict=True)),
        )
        for name, values in times.items()
    }


def _take_turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, warmup: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(warmup + rounds):
        for name, run in runs.items():
            _wait()
            start = clock()
            run()
            _wait()
            if i >= warmup:
                times[name].append(clock() - start)
    return times


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def saved_bytes(forward: Callable[[], object]) -> int:
    """Bytes that autograd keeps for backward during `forward`, every storage counted once."""
    seen: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output = forward()
    del output
    return sum(seen.values())


def machine() -> str:
    """One line: processor or GPU, threads, versions."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        model = [line for line in _cpuinfo() if line.startswith("model name")]
        device = model[0].split(":")[1].strip() if model else platform.processor() or platform.machine()
        device += f", {torch.get_num_threads()} threads"
    return f"{device}; torch {torch.__version__}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def write_table(
    title: str, header: Iterable[str], rows: Iterable[Iterable[object]], out: Path | None
) -> None:
    """Print a Markdown table with machine and command; write it to `out` as well where given."""
    header = list(header)
    lines = [f"# {title}", "", machine(), f"Command: `python {' '.join(sys.argv)}`", ""]
    lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
