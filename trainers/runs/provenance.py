"""What a run was computed with, in provenance.json: written when it starts, is resumed and ends."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from robustsabn.errors import CheckpointError
from robustsabn.files import write_text
from robustsabn.report.provenance import computed_with, labelled
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import understood

__all__ = ["Provenance", "note_end", "note_start", "read_provenance"]

FILE = "provenance.json"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a run was computed with; everything is empty for runs of earlier versions.

    - sessions: `computed_with` of the first start and of each resume, with the `step` and the number of
      `processes`.
    - data_sha256: of each data set as it was used, by the key of its specification.
    - weights_sha256: of the files of the kept checkpoints, such as "best/model.safetensors".
    - ended: the date of the closing evaluation.
    """

    sessions: Sequence[Mapping[str, str]] = ()
    data_sha256: Mapping[str, str] = field(default_factory=dict)
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    ended: str = ""

    def facts(self) -> list[tuple[str, str]]:
        """Names and values for a page; several sessions are joined where they differ."""
        rows = [(f"SHA-256 of {name}", value) for name, value in self.weights_sha256.items()]
        rows += [(f"SHA-256 of {key}", value) for key, value in self.data_sha256.items()]
        keys = dict.fromkeys(key for session in self.sessions for key in session)
        joined = {
            key: ", ".join(dict.fromkeys(session.get(key, "") for session in self.sessions)) for key in keys
        }
        dates = joined.pop("date", "")
        steps = [step for step in joined.pop("step", "").split(", ") if step not in ("", "0")]
        again = f", resumed at step {', '.join(steps)}" if steps else ""
        rows += [("started", dates + again), ("ended", self.ended), *labelled(joined)]
        return [(name, value) for name, value in rows if value]


def note_start(
    folder: RunFolder,
    step: int,
    device: torch.device,
    processes: int,
    data_sha256: Mapping[str, str],
) -> None:
    """Note what the steps from `step` on are computed with; what was noted of later steps is dropped."""
    before = [one for one in read_provenance(folder).sessions if step and int(one.get("step", 0)) < step]
    session = {"step": str(step), **computed_with(device), "processes": str(processes)}
    _write(folder, {"sessions": [*before, session], "data_sha256": dict(data_sha256)})


def note_end(folder: RunFolder, device: torch.device, networks: Sequence[str]) -> None:
    """Note the date, and the SHA-256 of the weights of `networks` in every kept checkpoint."""
    hashes: dict[str, str] = {}
    for place in sorted(folder.checkpoints.glob("[!.]*")):
        if place.name != "previous" and not place.name.startswith("damaged-"):
            try:
                files: Mapping[str, str] = read_facts(folder.checkpoints, place.name)["files"]
            except CheckpointError:
                continue
            own = (f"{name}.safetensors" for name in networks)
            hashes |= {f"{place.name}/{file}": files[file] for file in own if file in files}
    known = read_provenance(folder)
    content = {
        "sessions": [dict(one) for one in known.sessions],
        "data_sha256": dict(known.data_sha256),
        "weights_sha256": hashes,
        "ended": computed_with(device)["date"],
    }
    _write(folder, content)


def read_provenance(folder: RunFolder) -> Provenance:
    """What is known of a run. Raises CheckpointError for a file with other content."""
    file = folder.path / FILE
    if not file.is_file():
        return Provenance()
    with understood(file):
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Provenance(
            sessions=[{str(k): str(v) for k, v in one.items()} for one in content["sessions"]],
            data_sha256={str(k): str(v) for k, v in content["data_sha256"].items()},
            weights_sha256={str(k): str(v) for k, v in content.get("weights_sha256", {}).items()},
            ended=str(content.get("ended", "")),
        )


def _write(folder: RunFolder, content: Mapping[str, Any]) -> None:
    write_text(folder.path / FILE, json.dumps(content, indent=1) + "\n")
