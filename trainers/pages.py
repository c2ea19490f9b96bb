"""Writes the pages of runs of any task, and of sweeps."""

from pathlib import Path

from robustsabn.locks import locked
from robustsabn.paths import sweep_runs
from robustsabn.trainers.comparing import compare
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import read_records, understood
from robustsabn.trainers.runs.pages.page import write_page
from robustsabn.trainers.runs.pages.sweep import write_sweep
from robustsabn.trainers.tasks import read_run

__all__ = ["write_report", "write_run_page", "write_sweep_page"]


def write_report(folder: str | Path, title: str | None = None) -> Path:
    """Write the page of a run, or of a sweep with its runs, and return its path.

    Raises CheckpointError if there is neither.
    """
    place = RunFolder(folder)
    is_sweep = not place.config.is_file() and sweep_runs(place.path)
    return write_sweep_page(place.path, title) if is_sweep else write_run_page(place.path, title)


def write_sweep_page(folder: Path, title: str | None = None) -> Path:
    """Write report/index.html in the folder of a sweep, and the pages of its finished runs.

    Raises CheckpointError if no run has finished.
    """
    comparison = compare([folder])
    for run in comparison.runs:
        write_run_page(run.folder)
    with locked(folder / "report"):
        return write_sweep(comparison, folder, title)


def write_run_page(folder: str | Path, title: str | None = None) -> Path:
    """Write report/index.html in a run folder and return its path; `title` replaces the name of the folder.

    Raises CheckpointError if there is no run.
    """
    place = RunFolder(folder)
    config, task = read_run(place)
    with locked(place.path / "report"):
        records = list(read_records(place.metrics))
        with understood(place.metrics):
            page = task.results.page(config, place, records)
        return write_page(page, config, place, records, title)
