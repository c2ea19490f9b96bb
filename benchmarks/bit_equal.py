"""Trains every method for a few steps with two versions of the code, and compares the runs bit by bit.

    python benchmarks/bit_equal.py train FOLDER        # once with each version, into different folders
    python benchmarks/bit_equal.py compare OLD NEW     # prints a table

It compares weights, optimiser states and averages of every checkpoint, and the records of metrics.jsonl.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

METHODS = (
    *("standard", "pgd", "paired", "trades", "mart", "pgd-awp", "trades-awp", "mart-awp", "paired-awp"),
    *("free", "fgsm-rs", "n-fgsm", "gradalign", "advprop", "fast-advprop", "oat"),
)
OWN: dict[str, dict[str, Any]] = {
    "pgd": {"swa": {"start": 0.5, "batches": 2}},
    "gradalign": {"method": {"name": "gradalign", "lam": 0.2}},
}
CONFIG: dict[str, Any] = {
    "images": 64,
    "batch_size": 16,
    "epochs": 2,
    "checkpoint_every": 3,
    "attack": {"eps": 0.1, "steps": 2},
    "validation": {"images": 20, "steps": 1},
    "test": {"images": 20, "steps": 1},
    "log_every": 2,
    "device": "cpu",
    "ema": 0.9,
    "optim": {"name": "sgd", "clip": 1.0},
}
CHECKPOINTS = ("best", "last", "ema", "swa")
# times, and what one version records and the other does not
UNCOMPARED = ("images_per_second", "asked", "notes", "same_images")


def train_all(folder: Path) -> None:
    """Train each method, in a folder of its name."""
    from robustsabn.trainers import train

    torch.set_num_threads(1)
    for name in METHODS:
        train({**CONFIG, "method": name, **OWN.get(name, {}), "out": str(folder / name)})


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """All tensors of the checkpoints of a run, flattened, since the shape of route tables has changed."""
    found = {}
    for checkpoint in CHECKPOINTS:
        for file in sorted((run / "checkpoints" / checkpoint).glob("*.safetensors")):
            content = load_file(file)
            found |= {f"{checkpoint}/{file.name}/{name}": value.flatten() for name, value in content.items()}
    return found


def records(run: Path) -> list[dict[str, Any]]:
    """The records of a run that can be compared."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in UNCOMPARED} for line in lines
    ]


def compare(old: Path, new: Path) -> bool:
    """Print a row for each method; returns whether all are equal."""
    print("| method | tensors | equal | records | equal |\n| --- | --- | --- | --- | --- |")
    fine = True
    for name in METHODS:
        a, b = tensors(old / name), tensors(new / name)
        same = a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        first, second = records(old / name), records(new / name)
        fine &= same and first == second
        yes = {True: "yes", False: "NO"}
        print(f"| {name} | {len(a)} | {yes[same]} | {len(first)} | {yes[first == second]} |")
    return fine


if __name__ == "__main__":
    verb, *folders = sys.argv[1:]
    if verb == "train":
        train_all(Path(folders[0]))
    else:
        sys.exit(not compare(*map(Path, folders)))
