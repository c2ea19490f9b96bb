"""Runs numerical tests with the kernels of other processors, on one thread and on two, and prints a table.

    python benchmarks/processors.py [--ci] [--everything] [-n WORKERS]

ATen and oneDNN are limited to the given instructions, as on a processor without the others. `--ci` uses two
settings, `--everything` runs the whole suite instead of the numerical tests."""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
NUMBERS = {
    "layers": "batchnorm sample_norms views half_precision one_value folded_batches length_is_batch"
    " sequence_first",
    "conversion": "convert bake sabn_weights surgery_optimizer",
    "folding": "folded_copy following",
    "attacks": "pgd pgd_conditions projections losses rng bounds",
    "search": "apgd fab square apgd_focused properties verified_attacks",
    "autoattack": "slots autoattack flags majority",
    "attack_model": "zero_gradients",
    "adversarial": "evaluation random_evaluation accumulation",
    "methods": "trades masked_classes awp advprop fgsm free oat label_smoothing methods costs",
    "data": "mixing",
    "processes": "pitfalls",
    "loop": "ema swa",
}
SETTINGS = [
    ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, 2),
    ({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, 1),
    *(
        ({"ATEN_CPU_CAPABILITY": name}, threads)
        for name in ("default", "avx2", "avx512")
        for threads in (1, 2)
    ),
    *(({"ONEDNN_MAX_CPU_ISA": name}, threads) for name in ("SSE41", "AVX2") for threads in (1, 2)),
]


def main() -> int:
    """Print a row for each setting; returns the number of failed ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ci", action="store_true", help="two settings only")
    parser.add_argument("--everything", action="store_true", help="the whole suite")
    parser.add_argument("-n", default="2", help="processes of pytest")
    chosen = parser.parse_args()
    files = [
        str(TESTS / room / f"test_{name}.py") for room, names in NUMBERS.items() for name in names.split()
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", chosen.n]
    command += [] if chosen.everything else files
    print("| setting | threads | result | seconds |\n| --- | --- | --- | --- |", flush=True)
    failed = 0
    for setting, threads in SETTINGS[:2] if chosen.ci else SETTINGS:
        environment = {**os.environ, **setting, "OMP_NUM_THREADS": str(threads)}
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        failed += done.returncode != 0
        words = " ".join(f"`{key}={value}`" for key, value in setting.items())
        last = re.sub(r" in [\d.]+s.*", "", done.stdout.strip().splitlines()[-1].strip("= "))
        print(f"| {words} | {threads} | {last} | {time.perf_counter() - began:.0f} |", flush=True)
        if done.returncode:
            print(done.stdout[-20_000:], done.stderr[-2_000:], sep="\n", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
