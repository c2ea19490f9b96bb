"""The package and the light verbs import nothing heavy, and answer fast."""

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

HEAVY = ("torch", "torchvision", "numpy", "accelerate", "tensorboard", "sklearn", "matplotlib", "rich")


def heavy_after(code: str) -> str:
    code = f"{code}\nimport sys\nprint('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("argv", [["recipes"], ["--help"], ["--version"]])
def test_light_verbs_import_nothing_heavy(argv: list[str]) -> None:
    code = f"from robustsabn.cli import main\ntry:\n    main({argv})\nexcept SystemExit:\n    pass"
    assert heavy_after(code) == "HEAVY []"


def test_the_package_imports_no_torch_and_its_names_do_not_load_what_is_not_needed() -> None:
    assert heavy_after("import robustsabn, robustsabn.config, robustsabn.errors") == "HEAVY []"
    unwanted = {"torchvision", "accelerate", "tensorboard", "sklearn", "matplotlib", "rich"}
    loaded = heavy_after("import robustsabn\nfrom robustsabn import route, Split, RoutedBatchNorm2d")
    assert "torch" in loaded
    assert not any(f"'{name}'" in loaded for name in unwanted)


@pytest.mark.parametrize("argv", [["--help"], ["recipes"]])
def test_light_verbs_take_less_than_three_tenths_of_a_second(argv: list[str]) -> None:
    times = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-m", "robustsabn", *argv], cwd=ROOT, capture_output=True, check=True)
        after = os.times()
        # processor time: what else the machine does meanwhile does not count
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert 0 < min(times) < 0.3
