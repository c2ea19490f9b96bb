"""Training on Accelerate: tasks and methods, exact resume, checkpoints, logs.

Names are loaded on first use: importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from robustsabn.trainers.adversarial.config import TrainConfig
    from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation, evaluate, evaluate_run
    from robustsabn.trainers.adversarial.runs.export import export
    from robustsabn.trainers.adversarial.runs.models import load_run_config, load_run_model
    from robustsabn.trainers.comparing import Comparison, compare
    from robustsabn.trainers.config import RunConfig
    from robustsabn.trainers.loop.result import RunResult
    from robustsabn.trainers.processes.signals import Interrupted
    from robustsabn.trainers.sweeps import sweep

__all__ = [
    "Comparison",
    "Evaluation",
    "Interrupted",
    "RunResult",
    "TrainConfig",
    "compare",
    "evaluate",
    "evaluate_run",
    "export",
    "load_run_config",
    "load_run_model",
    "sweep",
    "train",
]

_HOMES = {
    "Comparison": "comparing",
    "Evaluation": "adversarial.evaluation.evaluation",
    "Interrupted": "processes.signals",
    "RunResult": "loop.result",
    "TrainConfig": "adversarial.config",
    "compare": "comparing",
    "evaluate": "adversarial.evaluation.evaluation",
    "evaluate_run": "adversarial.evaluation.evaluation",
    "export": "adversarial.runs.export",
    "load_run_config": "adversarial.runs.models",
    "load_run_model": "adversarial.runs.models",
    "sweep": "sweeps",
}


def train(
    config: str | Path | Mapping[str, Any] | RunConfig | None = None,
    overrides: Sequence[str | Mapping[str, Any]] | Mapping[str, Any] = (),
    resume: bool = False,
    **settings: Any,
) -> RunResult[Any]:
    """Train, evaluate the best checkpoint, and write both to a run folder.

    - config: a YAML file, the name of a packaged recipe, a mapping or a `TrainConfig`. Without it, the recipe
      "digits", or the defaults of `TrainConfig` if `settings` have a model or data.
    - overrides: such as {"attack.eps": 4 / 255} or ["attack.eps=4/255"]; they override `config`.
    - resume: continue exactly from the last checkpoint of the run folder.
    - settings: further overrides, such as epochs=5 or attack={"eps": 4 / 255}.

    `model` may be a torch.nn.Module, which is copied. `data` may be a torch Dataset or DataLoader, a Hugging
    Face dataset, a pair of tensors (images, labels), or several of them, as (train, test) or by the names
    "train", "validation" and "test". Another process that resumes such a run must be given both again.

    SIGINT, SIGTERM and SIGUSR1 finish the step, save, and raise `Interrupted`; the final evaluations stop at
    once. The caller's global random state is restored. Raises ConfigError, DataError, ModelError,
    CheckpointError or TrainingError, each in one line.

    Example:

        >>> from robustsabn.trainers import train
        >>> tiny = ["steps=2", "batch_size=8", "device=cpu", "validation.steps=1", "validation.gap=false",
        ...         "test.images=16", "test.steps=1", "test.autoattack=none"]
        >>> result = train("digits", [*tiny, "out=runs/tiny"])
        >>> result.folder.name, result.steps
        ('tiny', 2)
    """
    from robustsabn.trainers.loop.loop import run
    from robustsabn.trainers.runs.folder import run_name
    from robustsabn.trainers.tasks import load_config, start_from, task_class

    config, told = start_from(config, overrides, settings)
    chosen = load_config(config, told)
    return run(chosen, task_class(chosen), run_name(config), resume)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustsabn.trainers' has no attribute {name!r}")
    return getattr(import_module(f"robustsabn.trainers.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
