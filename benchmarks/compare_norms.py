"""Train one recipe with several norms and seeds, with all other settings equal; print mean and deviation.

    python benchmarks/compare_norms.py --recipe cifar10-small --norms bn auxbn saauxbn sabn --seeds 0 1 2 \
        --runs runs/norms --jobs 2 --out benchmarks/results/norms.md -- data=npz:cifar10.npz

Arguments after `--` are overrides for every run. Finished runs are not repeated; others are resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from timing import write_table


def result(run: Path) -> dict[str, Any] | None:
    """The final evaluation of a run; None if it has none yet."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return next((record for record in records if record["kind"] == "test"), None)


def train(run: Path, recipe: str, overrides: list[str], threads: int) -> float:
    """Train or resume until the run has its final evaluation; returns the seconds spent."""
    if result(run) is not None:
        return 0.0
    command = [sys.executable, "-m", "robustsabn", "train", recipe, f"out={run}", *overrides]
    command += ["--resume"] if (run / "checkpoints").is_dir() else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    run.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with (run.parent / f"{run.name}.log").open("a") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    return time.perf_counter() - start


def rows(runs: dict[str, list[Path]]) -> Iterator[list[str]]:
    """One row for each norm: accuracies per route, mean and sample deviation over seeds, in percent."""
    for norm, folders in runs.items():
        found = [record for record in map(result, folders) if record is not None]
        if not found:
            continue
        routes = list(found[0]["clean"])

        def cell(values: list[float]) -> str:
            spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
            return f"{100 * statistics.mean(values):.2f}{spread}"

        for route in routes:
            clean = [record["clean"][route] for record in found]
            robust = [record["robust"][route][route] for record in found]
            yield [norm, route, str(len(found)), cell(clean), cell(robust)]


def main() -> None:
    """Run everything that is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--norms", nargs="+", default=["bn", "auxbn", "saauxbn", "sabn"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/norms"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run")
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    runs = {norm: [args.runs / f"{norm}-{seed}" for seed in args.seeds] for norm in args.norms}
    jobs = [
        (folder, [f"norm={norm}", f"seed={seed}", *args.overrides])
        for seed in args.seeds
        for norm, folder in ((norm, args.runs / f"{norm}-{seed}") for norm in args.norms)
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        for folder, overrides in jobs:
            pool.submit(train, folder, args.recipe, overrides, args.threads).add_done_callback(
                lambda done, folder=folder: print(
                    folder, done.exception() or f"{done.result():.0f} s", flush=True
                )
            )
    test = next(record for folders in runs.values() for record in map(result, folders) if record)
    title = (
        f"{args.recipe}: {test['attack']} at {test['norm']} eps {test['eps']:.4f}, {test['n']} test images"
    )
    header = (
        "norm",
        "route",
        "seeds",
        "clean accuracy %",
        f"{test['attack']} accuracy % (attacked and scored)",
    )
    write_table(title, header, rows(runs), args.out)


if __name__ == "__main__":
    main()
