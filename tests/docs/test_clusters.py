"""The files for clusters run: SLURM's programs are replaced by ones that start the nodes on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.slow
FOLDER = ROOT / "examples" / "cluster"
PROGRAMS = {
    "torchrun": 'exec "$PYTHON" -m torch.distributed.run "$@"',
    "srun": 'for node in $(seq "$SLURM_NNODES"); do "$@" & echo $! >> nodes; done; for p in $(cat nodes); do '
    "wait $p || bad=1; done; exit ${bad:-0}",
    "scancel": '[ "$1 $2" = "--signal=TERM $SLURM_JOB_ID.0" ] && kill -TERM $(cat nodes)',
    "scontrol": 'if [ "$1" = show ]; then echo localhost; else echo "$@" >> requeued; fi',
}
RUN = [
    "digits",
    *("out=run", "batch_size=8", "attack.steps=1", "validation.images=8", "validation.steps=1"),
    *("test.images=8", "test.steps=1", "test.autoattack=none", "device=cpu", "checkpoint_every=1"),
]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, code in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{code}\n")
        (programs / name).chmod(0o755)
    slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "here"}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **slurm, "PATH": path, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}


def steps() -> list[int]:
    lines = Path("run/metrics.jsonl").read_text().splitlines()
    return [entry["step"] for entry in map(json.loads, lines) if entry["kind"] == "train"]


def test_a_job_of_two_nodes_saves_before_its_limit_and_goes_on_in_the_queue(
    environment: dict[str, str],
) -> None:
    job = ["bash", str(FOLDER / "train.sbatch"), *RUN, "log_every=1"]
    # far more steps than are done when the signal comes
    with subprocess.Popen([*job, "steps=3000"], env=environment) as first:
        deadline = time.monotonic() + 240
        while not Path("run/checkpoints/last").exists():
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.1)
        first.send_signal(signal.SIGUSR1)
        assert first.wait(120) == 0
    assert Path("requeued").read_text() == f"requeue {environment['SLURM_JOB_ID']}\n"
    done = steps()[-1]
    assert 0 < done < 3000
    Path("nodes").unlink()
    again = {**environment, "SLURM_RESTART_COUNT": "1"}
    subprocess.run([*job, f"steps={done + 2}"], env=again, check=True, timeout=300)
    assert steps() == list(range(1, done + 3))


def test_torchrun_on_two_nodes(environment: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    own = {**environment, "NODES": "2", "GPUS": "1", "PORT": port}
    command = ["bash", str(FOLDER / "torchrun.sh"), *RUN, "steps=2"]
    nodes = [subprocess.Popen(command, env={**own, "NODE": str(node)}) for node in (1, 0)]
    assert [node.wait(300) for node in nodes] == [0, 0]
    assert steps()
