"""A run folder that was written, not trained: its configuration and records."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustsabn import config
from robustsabn.trainers import TrainConfig

__all__ = ["ROUTED", "ended_run"]

ROUTED = {
    "n": 100,
    "clean": {"clean": 0.97, "adv": 0.95},
    "robust": {"clean": {"clean": 0.2, "adv": 0.3}, "adv": {"clean": 0.25, "adv": 0.4}},
    "attack": "pgd-20",
    "norm": "Linf",
    "eps": 8 / 255,
    "step_size": 0.004,
    "unusable": 0,
    "autoattack": {},
    "autoattack_n": 0,
}


def ended_run(
    folder: Path,
    *overrides: str,
    robust: float = 0.4,
    test: Mapping[str, Any] | None = None,
    ended: bool = True,
) -> Path:
    """A run of four epochs of 10 steps that reached `robust` in its closing evaluation."""
    folder.mkdir(parents=True)
    own = config.load(TrainConfig, {"batch_size": 50}, [*overrides, f"out={folder}"])
    (folder / "config.yaml").write_text(config.dump(own))
    records: list[dict[str, Any]] = []
    for step in (20, 40):
        speed = {"images_per_second": 100.0}
        records.append({"kind": "train", "step": step, "epoch": step / 10, "loss": 1.0, **speed})
        scores = {"clean": {"clean": 0.9, "adv": 0.8}, "robust": {"adv": {"clean": 0.1, "adv": robust - 0.1}}}
        records.append({"kind": "validation", "step": step, **scores})
    if ended:
        scored = {**ROUTED, "robust": {"adv": {"clean": 0.1, "adv": robust}}}
        records.append({"kind": "test", "step": 40, **scored, **(test or {})})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder
