"""Training runs in processes of their own, to be traced, counted or killed.

python -m tests.helpers.launch JOBS.json    a list of {"config": {...}, "resume": bool, "die": step, "stop":
step, "trace": file}"""

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.processes import stopping
from robustsabn.trainers.processes.signals import Interrupted
from robustsabn.trainers.tasks import load_config, task_class
from tests.helpers import ROOT
from tests.helpers.processes import THREADS, apart

__all__ = ["accelerate_launch", "launch", "perform"]

Jobs = list[dict[str, Any]]
# with --cpu the launcher always starts one process; --multi_gpu starts the given number on any machine
ACCELERATE = (
    "--multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0 --module"
)


def launch(jobs: Jobs, place: Path, processes: int = 1) -> tuple[int, str]:
    """Perform `jobs` one after the other in new processes: exit code and output."""
    return apart(_perform_all, jobs, place=place, processes=processes)


def accelerate_launch(jobs: Jobs, place: Path) -> tuple[int, str]:
    """As `launch`, in two processes of `accelerate launch`."""
    file = place / "jobs.json"
    file.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2"]
    command += [*ACCELERATE.split(), "tests.helpers.launch", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": THREADS, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=400,
        check=False,
    )
    return done.returncode, done.stdout


def perform(
    config: dict[str, Any],
    resume: bool = False,
    die: int | None = None,
    stop: int | None = None,
    trace: str | None = None,
) -> None:
    """Train. With `die`, be killed as by kill -9 when that step begins; `trace` keeps the state of every
    step.

    With `stop`, the last process is sent SIGTERM when that step begins, and all stop after it. The main
    process writes `trace`, process r `trace`.r."""
    chosen = load_config(config)
    steps: list[dict[str, torch.Tensor]] = []

    class Traced(task_class(chosen)):  # type: ignore[misc]
        def step(self, step: int) -> dict[str, torch.Tensor]:
            acc = next(iter(self.updates.values())).accelerator
            if step == die:
                os.kill(os.getpid(), signal.SIGKILL)
            if step == stop and acc.is_last_process:
                os.kill(os.getpid(), signal.SIGTERM)
            logged: dict[str, torch.Tensor] = super().step(step)
            if trace is not None:
                raw = [network.raw.state_dict() for network in self.networks.values()]
                steps.append({name: value.clone() for state in raw for name, value in state.items()})
                torch.save(steps, trace if acc.is_main_process else f"{trace}.{acc.process_index}")
            return logged

    # processes exchange signals after every step
    with mock.patch.object(stopping, "SECONDS", 0), nullcontext() if stop is None else suppress(Interrupted):
        run(chosen, Traced, resume=resume)


def _perform_all(jobs: Jobs) -> None:
    torch.set_num_threads(int(THREADS))
    for job in jobs:
        perform(**job)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _perform_all(json.loads(Path(sys.argv[1]).read_text()))
