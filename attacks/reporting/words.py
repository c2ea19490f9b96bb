"""A report in words: what its numbers mean, and which papers to cite."""

from robustsabn.attacks.report import Report
from robustsabn.report.numbers import eps_text, percent
from robustsabn.text import counted

__all__ = ["cite", "comparable", "headline", "threat_text", "verdicts"]

_CITE = {
    "autoattack": (
        "F. Croce, M. Hein. Reliable evaluation of adversarial robustness with an ensemble of diverse "
        "parameter-free attacks. ICML 2020. (AutoAttack, APGD)"
    ),
    "fab": (
        "F. Croce, M. Hein. Minimally distorted adversarial examples with a fast adaptive boundary attack. "
        "ICML 2020. (FAB)"
    ),
    "square": (
        "M. Andriushchenko, F. Croce, N. Flammarion, M. Hein. Square Attack: a query-efficient black-box "
        "adversarial attack via random search. ECCV 2020. (Square)"
    ),
    "L1": "F. Croce, M. Hein. Mind the box: l1-APGD for sparse adversarial attacks on image classifiers. "
    "ICML 2021. (attacks in L1)",
    "robustbench": (
        "F. Croce, M. Andriushchenko, V. Sehwag, E. Debenedetti, N. Flammarion, M. Chiang, P. Mittal, M. "
        "Hein. RobustBench: a standardized adversarial robustness benchmark. NeurIPS 2021 Datasets and "
        "Benchmarks."
    ),
}
_OFFICIAL = ("robustsabn", "official")  # engines that run AutoAttack itself


def threat_text(report: Report) -> str:
    """The threat model in one phrase."""
    low, high = report.bounds
    return f"{report.norm} perturbations of at most {eps_text(report.eps)}, images in [{low:g}, {high:g}]"


def headline(report: Report) -> str:
    """Clean accuracy, and robust accuracy with its interval, in one sentence."""
    low, high = report.confidence
    return (
        f"Clean accuracy {percent(report.clean_accuracy)}, robust accuracy {percent(report.robust_accuracy)} "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %) on {counted(report.n, 'image')}."
    )


def comparable(report: Report) -> str:
    """Whether the number is comparable with those of RobustBench."""
    if report.engine not in _OFFICIAL:
        return f"This is an attack of {report.engine}, not AutoAttack: an upper bound of the robust accuracy."
    if report.version != "standard":
        return (
            f"This is version {report.version}, not standard: do not compare the number with those of "
            "RobustBench."
        )
    if any(flag.name == "autocast" for flag in report.flags):
        return (
            "This is version standard, but searched in bfloat16: compare it with RobustBench only after a "
            "search in float32 has given the same number."
        )
    return (
        "This is version standard, as used by RobustBench: the numbers are comparable if images and eps "
        f"agree ({report.n} images here; they use 10000 of CIFAR, 5000 of ImageNet)."
    )


def verdicts(report: Report) -> list[str]:
    """For every sample: "robust", "broken" (by an attack), or "wrong" (without an attack)."""
    rows = zip(report.clean.tolist(), report.robust.tolist(), strict=True)
    return ["robust" if robust else "broken" if clean else "wrong" for clean, robust in rows]


def cite(report: Report) -> list[str]:
    """The papers behind the attacks that ran."""
    if report.engine not in _OFFICIAL:
        return [f"the paper of {attack.name}, as cited by {report.engine}" for attack in report.attacks]
    ran = " ".join(attack.name for attack in report.attacks)
    keys = ["autoattack", *(name for name in ("fab", "square") if name in ran)]
    keys += ["L1"] if report.norm == "L1" else []
    return [_CITE[key] for key in (*keys, "robustbench")]
