"""The tests with the kernels of other processors, on one thread and two: a table of what passed.

    python benchmarks/processors.py [-n WORKERS] [PYTEST ARGUMENTS]

ATen and oneDNN are told to use no more than the instructions named, which is what they do on a processor without the others.
"""

import argparse
import os
import re
import subprocess
import sys
import time

ATEN = ("default", "avx2", "avx512")
ONEDNN = ("SSE41", "AVX2")
SETTINGS = [
    *({"ATEN_CPU_CAPABILITY": name} for name in ATEN),
    *({"ONEDNN_MAX_CPU_ISA": name} for name in ONEDNN),
]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", default="2", help="processes of pytest")
    chosen, rest = parser.parse_known_args()
    print("| setting | threads | result | seconds |\n| --- | --- | --- | --- |", flush=True)
    failed = 0
    for setting in SETTINGS:
        for threads in (1, 2):
            environment = {**os.environ, **setting, "OMP_NUM_THREADS": str(threads)}
            began = time.perf_counter()
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", chosen.n, *rest]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            failed += done.returncode != 0
            words = " ".join(f"`{key}={value}`" for key, value in setting.items())
            last = re.sub(r" in [\d.]+s.*", "", done.stdout.strip().splitlines()[-1].strip("= "))
            print(f"| {words} | {threads} | {last} | {time.perf_counter() - began:.0f} |", flush=True)
            for line in done.stdout.splitlines():
                if line.startswith(("FAILED", "ERROR")):
                    print(line, file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
