"""A table of cells that are trained from scratch, in the setting in which a search trains its found cell."""

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import torch

from robustsabn.errors import ConfigError, UsageError
from robustsabn.files import make_folder, write_text
from robustsabn.locks import LOCK, locked
from robustsabn.nas import Cell, Table, all_cells, read_table
from robustsabn.nas.agreement import kendall_tau
from robustsabn.text import counted
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.division import Division, divide
from robustsabn.trainers.nas.scratch import accuracy_from_scratch

__all__ = ["LANDMARKS", "agreement_of_seeds", "choose_cells", "make_table", "settings_of"]

LANDMARKS = tuple(Cell((operation,) * 6) for operation in (0, 1, 3))
"""Cells that every table has: no operation, only skips, only 3x3 convolutions."""

SETTINGS = "# settings: "


def choose_cells(n: int, seed: int = 0) -> list[Cell]:
    """`LANDMARKS`, and n further cells of the 15,625, drawn by seed without repetition."""
    others = [cell for cell in all_cells() if cell not in LANDMARKS]
    if not 0 <= n <= len(others):
        raise UsageError(f"--cells is {n}; give 0 to {len(others)}")
    return [*LANDMARKS, *random.Random(seed).sample(others, n)]


def make_table(
    config: NasConfig,
    cells: Sequence[Cell],
    path: Path,
    made_by: str,
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> Table:
    """Train each of `cells` with `test.seeds` seeds, and write their test accuracies to a CSV file.

    The file is complete after each cell, and cells that it has are not trained again: to continue after a
    kill is to make the table again. The data set is called by the name of the file. `progress` is called with
    the numbers of cells that are done and of all, and a note.

    Raises ConfigError without `test.epochs`, UsageError if the file was made in another setting, and as
    `read_table`.
    """
    if config.test.epochs is None:
        raise ConfigError(
            "test.epochs is none; give the epochs to train each cell for, such as test.epochs=20"
        )
    dataset, division = path.name.partition(".")[0], divide(config)
    settings = settings_of(config, division)
    head = f"# Test accuracy in percent of cells trained from scratch: {made_by}\n{settings}\n{_versions()}\n"
    names = ["arch", f"{dataset}_test", *(f"{dataset}_test_seed{i}" for i in range(config.test.seeds))]
    make_folder(path.parent)
    with locked(path.parent, f"{LOCK}-{path.name}"):
        text, known = _begun(path, settings, head + ",".join(names) + "\n")
        device = torch.device("cuda" if config.device == "auto" and torch.cuda.is_available() else "cpu")
        for done, cell in enumerate(cells):
            if cell in known:
                continue
            progress(done, len(cells), str(cell))
            found = [
                100 * accuracy_from_scratch(config, division, cell, seed, device)
                for seed in range(config.test.seeds)
            ]
            text += _row(cell, fmean(found), *found)
            write_text(path, text)
            known.add(cell)
    return read_table(path)


def agreement_of_seeds(path: Path) -> float | None:
    """Kendall's tau of the accuracies with seeds 0 and 1 in a file of `make_table`, beside which to read the
    tau of a supernet. None without a second seed or cell."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = list(csv.reader(line for line in lines if not line.startswith("#")))
    if len(rows) < 3 or len(rows[0]) < 4:
        return None
    first, second = ([float(row[place]) for row in rows[1:]] for place in (2, 3))
    return kendall_tau(first, second)


def settings_of(config: NasConfig, division: Division) -> str:
    """All that the accuracies depend on, but rounding, as a comment of the table."""
    names = ("data", "channels", "cells", "reduction")
    settings = {
        **{name: getattr(config, name) for name in names},
        "augment": asdict(config.augment),
        "training_images": len(division.data.train),
        "test_images": len(division.test),
        "epochs": config.test.epochs,
        "seeds": config.test.seeds,
    }
    return SETTINGS + json.dumps(settings)


def _versions() -> str:
    return f"# begun with torch {torch.__version__} on {counted(torch.get_num_threads(), 'thread')}"


def _begun(path: Path, settings: str, head: str) -> tuple[str, set[Cell]]:
    """The text of the file so far, and the cells that it has."""
    if not path.exists():
        return head, set()
    text = path.read_text(encoding="utf-8")
    if settings not in text.splitlines():
        raise UsageError(f"{path} was made in another setting; choose another --out, or remove the file")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    return text, set(read_table(path).cells) if len(rows) > 1 else set()


def _row(cell: Cell, *accuracies: float) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow([cell, *(f"{accuracy:.4f}" for accuracy in accuracies)])
    return row.getvalue()
