"""Converts networks of other packages: one of every timm family, those of torchvision, transformers and
others.

    python benchmarks/conversion_zoo.py [--only REGEX] [--cache FILE] [--jobs 2] [--out FILE.md]

Each network runs in its own process, with limits of memory and time. Its row is appended to the cache. A
second call runs the networks that the cache does not have, or with --only all that match. Weights are random;
nothing is downloaded."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import re
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module, metadata
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from timing import write_table
from zoo.checks import COLUMNS, examine
from zoo.network import Network

SOURCES = ("timm", "torchvision", "transformers", "medical", "pytorchcv", "others")
PACKAGES = (
    *(
        "timm",
        "torchvision",
        "segmentation-models-pytorch",
        "monai",
        "transformers",
        "pytorchcv",
        "vit-pytorch",
    ),
    *("efficientnet-pytorch", "facenet-pytorch", "geffnet", "lightly"),
)
GIGABYTES = 6
OUTCOMES = {
    "equal": "converted, equal throughout",
    "equal as advised": "refused, and equal once the refusal's advice is followed",
    "refused": "refused in words",
    "not run": "not run: the plain network does not, or its package is absent",
    "left out": "left out of this table: not run yet",
    "killed": "past the limit of time or memory",
    "ERROR": "error that is no refusal",
    "DIFFERENT": "silent difference",
}


def networks() -> Iterator[Network]:
    """Every network of every source."""
    for source in SOURCES:
        yield from import_module(f"zoo.from_{source}").networks()


def _work(network: Network, seconds: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES << 30, GIGABYTES << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    began = time.perf_counter()
    row = examine(network)
    pipe.send({**row, "seconds": round(time.perf_counter() - began, 1)})


def run(todo: Iterable[Network], jobs: int, seconds: int) -> Iterator[dict[str, Any]]:
    """The rows of networks as they finish, each from a forked process; a crash gives a row too."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(todo), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            network, (here, there) = waiting.pop(), context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(network, seconds, there), daemon=True)
            process.start()
            there.close()
            running[here] = (process, network)
        for pipe in wait(list(running)):
            process, network = running.pop(pipe)
            try:
                yield pipe.recv()
            except EOFError:
                process.join()
                why = f"ended by signal or limit, exit code {process.exitcode}"
                yield {"family": network.family, "network": network.name, "outcome": "killed", "said": [why]}
            process.join()


def main() -> None:
    """Run the networks that the cache does not have, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default=None, help="regular expression on 'family network': run these again"
    )
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "conversion_zoo.jsonl")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=300, help="processor time for one network")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    every = list(networks())
    rows = _read(args.cache)
    if args.only is None:
        todo = [network for network in every if _key(network) not in rows]
    else:
        todo = [network for network in every if re.search(args.only, " ".join(_key(network)))]
    with args.cache.open("a") as cache:
        for row in run(todo, args.jobs, args.seconds):
            print(
                f"{row['family']}: {row['network']}: {row['outcome']} {' | '.join(row['said'])[:300]}",
                flush=True,
            )
            print(json.dumps(row), file=cache, flush=True)
            rows[row["family"], row["network"]] = row
    if args.out is not None:
        _table([rows.get(_key(network)) or _absent(network) for network in every], args.out)


def _key(network: Network) -> tuple[str, str]:
    return network.family, network.name


def _absent(network: Network) -> dict[str, Any]:
    return {"family": network.family, "network": network.name, "outcome": "left out", "said": []}


def _read(cache: Path) -> dict[tuple[str, str], dict[str, Any]]:
    lines = cache.read_text().splitlines() if cache.exists() else []
    return {(row["family"], row["network"]): row for row in map(json.loads, lines)}


def _table(rows: list[dict[str, Any]], out: Path) -> None:
    """Counts of outcomes, a row for every network, and the messages about those that are not simply equal."""
    counted = Counter(row["outcome"] for row in rows)
    families = len({row["family"] for row in rows})
    lines = [f"{len(rows)} networks of {families} families.", ""]
    lines += [f"- {counted.get(outcome, 0)} {words}" for outcome, words in OUTCOMES.items()]
    header = ("family", "network", "outcome", *COLUMNS)
    cells = [[row.get(column, "") for column in header] for row in rows]
    write_table("Networks of other packages, converted", header, cells, out)
    head, _, table = out.read_text().partition("\n\n| ")
    said = [
        f"- **{row['network']}** ({row['family']}): {' / '.join(row['said'])}" for row in rows if row["said"]
    ]
    text = "\n".join([head, *versions(), "", *lines, "", "| " + table, "## What was said", "", *said, ""])
    out.write_text(text)


def versions() -> list[str]:
    """A line with the versions of the packages that networks come from."""
    found = []
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return [f"Packages: {', '.join(found)}. Weights random, seed 0; float32, and float64 where that differs."]


if __name__ == "__main__":
    main()
