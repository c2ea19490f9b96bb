"""Run folders, records and reports that were damaged or made up."""

import shutil
from collections.abc import Callable
from pathlib import Path

from robustsabn.trainers import evaluate_run, load_run_config, load_run_model
from tests.helpers.hostile.case import Case, damaged

__all__ = ["journals", "runs"]

STATES = ("null", "[]", "{}", '"text"', "3", '{"step": 1}', "{", '{"files": null}', "NaN")


def runs(sound: Path, made: Path) -> list[Case]:
    found = []
    run = sound / "run"
    files = [path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file()]
    wanted = [f for f in files if f.name in ("config.yaml", "state.json", "model.safetensors")]
    for file in wanted:
        for name, content in damaged((run / file).read_bytes()).items():
            if file.parts[-2:-1] != ("best",) and file.name != "config.yaml":
                continue
            if file.name == "state.json" and name == "cut by one":
                continue  # its end of line
            if file.name == "config.yaml" and name in ("empty", "cut by one", "half", "cut to ten"):
                continue  # what is left of it may be a configuration
            new = made / f"run {name} {file.name}"
            shutil.copytree(run, new)
            (new / file).write_bytes(content)
            found.append(Case(f"run {name} {file}", _ask_run(new)))
    state = next(f for f in files if f.name == "state.json" and "best" in f.parts)
    for i, text in enumerate(STATES):
        new = made / f"state {i}"
        shutil.copytree(run, new)
        (new / state).write_text(text)
        found.append(Case(f"state {text}", _ask_run(new)))
    missing = made / "run without checkpoints"
    shutil.copytree(run, missing)
    shutil.rmtree(missing / "checkpoints")
    found.append(Case("run without checkpoints", _ask_run(missing)))
    for verb in ("evaluate", "report", "compare", "export"):
        for place in (made / "nowhere", sound / "photos", sound / "sound.npz", missing):
            words = ["--route", "adv", "--out", "x.pt2"] if verb == "export" else []
            if verb in ("report", "compare") and place == missing:
                continue  # these ask no checkpoint
            found.append(Case(f"{verb} {place.name}", [verb, str(place), *words]))
    return found


def _ask_run(folder: Path) -> Callable[[], object]:
    def do() -> object:
        load_run_config(folder)
        load_run_model(folder)
        return evaluate_run(folder, n=2)

    return do


def journals(sound: Path, made: Path) -> list[Case]:
    """Records of runs and reports of evaluations that make no sense: page and table skip or refuse them."""
    found = []
    records = (
        "null",
        "3",
        "[]",
        "{}",
        '{"kind": 3}',
        '{"kind": "test"}',
        '{"kind": "test", "clean": 3}',
        '{"kind": "train", "step": "x"}',
        '{"kind": "validation", "step": 1, "robust": {}}',
        '{"kind": "validation", "step": 1, "robust": {"a": 3}, "clean": []}',
        '{"kind": "train", "step": 1e400, "images_per_second": 0}',
        "\x00" * 100,
        "{" * 10_000,
    )
    for i, text in enumerate(records):
        for how in ("alone", "more"):
            new = made / f"records {i} {how}"
            shutil.copytree(sound / "run", new)
            metrics = new / "metrics.jsonl"
            metrics.write_text((metrics.read_text() if how == "more" else "") + text + "\n")
            for verb in ("compare", "report"):
                case = Case(f"{verb} records {text[:50]} {how}", [verb, str(new)], right=True)
                found.append(case)
    for i, text in enumerate(
        (*STATES, '{"about": 3}', '{"about": {"checkpoint": "best", "data": "digits"}}')
    ):
        new = made / f"report {i}"
        shutil.copytree(sound / "run", new)
        for route in ("adv", "clean", "all"):
            place = new / "report" / f"autoattack-{route}"
            place.mkdir(parents=True, exist_ok=True)
            (place / "report.json").write_text(text)
        (new / "report" / "evaluation.json").write_text(text)
        for verb in ("compare", "report"):
            found.append(Case(f"{verb} report.json {text}", [verb, str(new)], right=True))
    return found
