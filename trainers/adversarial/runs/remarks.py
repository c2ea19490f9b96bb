"""What a page says about the health of a run of adversarial training: every known failure by its name."""

from collections.abc import Mapping, Sequence

from robustsabn.report.numbers import percent
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.evaluation.accuracies import Evaluation
from robustsabn.trainers.adversarial.evaluation.curves import RunCurves
from robustsabn.trainers.adversarial.evaluation.overfitting import (
    LOST,
    Reading,
    collapse,
    course,
    decline,
)
from robustsabn.trainers.methods import Standard
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import Record
from robustsabn.trainers.runs.pages.page import Remark

__all__ = ["ENOUGH", "remarks"]

ENOUGH = 5
"""Validations before a page says that there is no robust overfitting: with fewer, the best of them cannot be
told from the scatter of its neighbours, and a fall after the last drop of the rate is not seen yet."""

HARDLY = 0.1
"""Share of the way from guessing to certainty; networks with random weights are often at half of it."""

MASKING = ("zero-gradients", "square-only", "fab-only", "nan-gradients", "gradient-in-forward")
"""Flags of AutoAttack that are signs of masked gradients."""

STATISTICS = 0.25
"""Least accuracy lost between statistics of the batch and running ones that is called a misfit."""


def remarks(
    config: TrainConfig,
    folder: RunFolder,
    records: Sequence[Record],
    evaluations: Sequence[Evaluation],
    reports: Mapping[str, Record],
    curves: RunCurves | None,
    classes: int | None,
) -> list[Remark]:
    """The remarks on a run, worst first.

    - evaluations: the closing ones and the one by `evaluate`, newest weights first.
    - reports: the report.json of each attack, by the name of its folder.
    - classes: the number of classes, None if unknown.
    """
    return [
        *_stopped(folder, records),
        *_numerical(evaluations),
        *_guessing(evaluations, records, classes),
        *_masked(reports, curves),
        *_weak(evaluations),
        *_statistics(records, config),
        *_overfitting(course(records), config, classes),
    ]


def _stopped(folder: RunFolder, records: Sequence[Record]) -> list[Remark]:
    """A loss that was NaN or infinite, unless the run was resumed past it."""
    reached = max((int(record["step"]) for record in records), default=0)
    found = []
    for file in sorted(folder.path.glob("batch-of-step-*.safetensors")):
        number = file.stem.rpartition("-")[2]
        if number.isdecimal() and int(number) > reached:
            text = (
                f"The loss or the weights became NaN or infinite at step {number}, and training stopped "
                f"there. Its images and labels are in {file.name}. Resume with a lower optim.lr, with "
                "optim.clip, or in fp32."
            )
            found.append(Remark("warning", "NaN.", text))
    return found


def _numerical(evaluations: Sequence[Evaluation]) -> list[Remark]:
    lines = dict.fromkeys(e.warning for e in evaluations if e.warning)
    return [Remark("warning", "NaN.", f"{line}.") for line in lines]


def _guessing(
    evaluations: Sequence[Evaluation], records: Sequence[Record], classes: int | None
) -> list[Remark]:
    """Clean accuracy that is hardly better than guessing: weights that are random, or of something else."""
    if classes is None:
        return []
    clean = [e.clean for e in evaluations[:1]]
    clean = clean or [record["clean"] for record in records if record["kind"] == "validation"][-1:]
    guess = 1 / max(classes, 2)
    poor = {n: rate for rates in clean for n, rate in rates.items() if rate < guess + HARDLY * (1 - guess)}
    if not poor:
        return []
    through = "" if "all" in poor else f" through {' and '.join(poor)}"
    text = (
        f"Clean accuracy{through} is {' and '.join(percent(rate, 1) for rate in poor.values())}, where "
        f"guessing among {classes} classes gives {percent(guess, 1)}: these weights are hardly better than "
        "random ones. Was the run long enough, optim.lr in range, eps not too large for the start, and are "
        "the labels those of the images?"
    )
    return [Remark("warning", "Hardly better than guessing.", text)]


def _masked(reports: Mapping[str, Record], curves: RunCurves | None) -> list[Remark]:
    """Signs that gradients lead nowhere, from curves and from AutoAttack's flags."""
    signs = [f"{finding[0].upper()}{finding[1:]}." for finding in (curves.findings() if curves else ())]
    for name, content in reports.items():
        flags = [flag for flag in content["flags"] if flag["severity"] == "warning"]
        signs += [f"{name}: {flag['message']}." for flag in flags if flag["name"] in MASKING]
    if not signs:
        return []
    advice = "The true robustness is lower than these accuracies; see docs/analysis.md, masked gradients."
    return [Remark("warning", "Masked gradients.", " ".join([*dict.fromkeys(signs), advice]))]


def _weak(evaluations: Sequence[Evaluation]) -> list[Remark]:
    """AutoAttack that breaks more than half of the images that PGD left, and 20 points of all."""
    for measured in evaluations[:1]:
        if not measured.autoattack:
            continue
        last = measured.routes[-1]
        pgd = (measured.same_images or measured.robust[list(measured.robust)[-1]])[last]
        left = measured.autoattack[last]
        if pgd - left > max(0.2, pgd / 2):
            text = (
                f"AutoAttack leaves {percent(left, 1)} of {measured.autoattack_n} images where "
                f"{measured.attack} left {percent(pgd, 1)}: accuracies under PGD are far too high, by "
                "masked gradients or by too few steps. Take AutoAttack's number, and see evaluate --curves "
                "for the cause."
            )
            return [Remark("warning", "PGD was too weak.", text)]
    return []


def _statistics(records: Sequence[Record], config: TrainConfig) -> list[Remark]:
    """Running statistics that do not fit the network, and attacks with statistics of the batch."""
    mode = config.attack.bn_mode
    if lost := _lost_by_statistics(records, config):
        trained, clean, robust = lost
        cause = (
            "Is the momentum of the batch norms right for the number of steps, and are batches large enough?"
            if mode == "eval"
            else f"Set attack.bn_mode=eval: with {mode} the attack is not on the network that is evaluated."
        )
        text = (
            f"With statistics of the batch, as in training, the network was right on {percent(trained, 1)} "
            f"of training images, with running statistics, as in validation, on {percent(robust, 1)} of "
            f"attacked training images and {percent(clean, 1)} of clean held-out ones: the running "
            f"statistics do not fit. {cause}"
        )
        return [Remark("warning", "Wrong batch-norm statistics.", text)]
    if mode == "eval":
        return []
    updated = ", and changed the running ones with attacked images" if mode == "train" else ""
    text = (
        f"With attack.bn_mode={mode} the attacks of the training used statistics of the batch{updated}; the "
        "evaluated network uses running ones. Accuracies under attack in training and validation are those "
        "of two different networks; attack.bn_mode=eval attacks the one that is evaluated."
    )
    return [Remark("note", "Batch norms during the attack.", text)]


def _lost_by_statistics(records: Sequence[Record], config: TrainConfig) -> tuple[float, float, float] | None:
    """Accuracies in training, on clean held-out images, and on attacked training images, if the last two are
    so much lower that only the statistics explain it: memorised images stay right, and so do clean ones in
    catastrophic overfitting.
    """
    train = [r for r in records if r["kind"] == "train"][-1:]
    validations = [r for r in records if r["kind"] == "validation" and "train_robust" in r][-1:]
    if isinstance(config.method, Standard) or not train or not validations:
        return None
    trained = max((v for k, v in train[0].items() if k.endswith("accuracy")), default=0.0)
    clean, robust = max(validations[0]["clean"].values()), validations[0]["train_robust"]
    worst = max(clean, robust)
    return (trained, clean, robust) if worst < trained / 2 and trained - worst > STATISTICS else None


def _overfitting(points: Sequence[Reading], config: TrainConfig, classes: int | None) -> list[Remark]:
    if isinstance(config.method, Standard):  # standard training has no robustness to lose
        return []
    kept, found = config.by_robustness, list[Remark]()
    if fallen := collapse(points, kept):
        found.append(Remark("warning", "Catastrophic overfitting.", f"{fallen[0].upper()}{fallen[1:]}."))
    if not points or points[-1].collapsed:
        return found
    best, last = max(points, key=lambda point: point.robust), points[-1]
    if lost := decline(points, kept):
        text = f"{lost[0].upper()}{lost[1:]}. Train for fewer epochs, or with AWP."
        found.append(Remark("warning", "Robust overfitting.", text))
    elif not _robust(best.robust, classes):
        text = f"Robust validation accuracy was at most {percent(best.robust, 1)}."
        found.append(Remark("warning", "Never robust.", text))
    elif len(points) >= ENOUGH:
        summary = (
            f"Robust validation accuracy was best at step {best.step} with {percent(best.robust, 1)} and "
            f"ended at {percent(last.robust, 1)}, in {len(points)} validations."
        )
        found.append(Remark("good", "No robust overfitting.", summary))
    else:
        text = f"{len(points)} validations are too few to tell; it takes {ENOUGH}."
        found.append(Remark("note", "Robust overfitting is not known.", text))
    return found


def _robust(best: float, classes: int | None) -> bool:
    """Whether an accuracy under attack is clearly above that of a constant prediction."""
    return best > 1 / max(classes or 10, 2) + LOST
