"""Writes the page of a run of any task."""

from pathlib import Path

from robustsabn.locks import locked
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import read_records, understood
from robustsabn.trainers.runs.pages.page import write_page
from robustsabn.trainers.tasks import read_run

__all__ = ["write_run_page"]


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
