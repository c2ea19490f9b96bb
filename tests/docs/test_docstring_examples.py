"""Every public name has a docstring with an example, and the examples give what they show."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
import torch

MODULES = ("robustsabn", "robustsabn.attacks", "robustsabn.trainers")
NAMES = [
    (module, name)
    for module in MODULES
    for name in importlib.import_module(module).__all__
    if not name.startswith("__")
    and not inspect.ismodule(getattr(importlib.import_module(module), name))
    and (module, name) not in (("robustsabn", "train"), ("robustsabn", "export"))  # that of trainers
]


class Checker(doctest.OutputChecker):
    """A line without a result may print: training shows its progress."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def run_example(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", {}, name, None, None)
    assert examples.examples, f"{module}.{name} has no example"
    failures: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        doctest.DocTestRunner(Checker()).run(examples, out=failures.append)
    assert not failures, "".join(failures)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of `train`'s example, which other examples use."""
    path = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        run_example("robustsabn.trainers", "train")
    return path


@pytest.mark.parametrize(("module", "name"), [pair for pair in NAMES if pair[0] != "robustsabn.trainers"])
def test_the_example_of_a_public_name_runs(module: str, name: str) -> None:
    run_example(module, name)


@pytest.mark.parametrize("name", [name for module, name in NAMES if module == "robustsabn.trainers"])
def test_the_example_of_a_name_of_trainers_runs(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    if name != "train":  # the fixture has run it
        run_example("robustsabn.trainers", name)
