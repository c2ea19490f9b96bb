"""Every public name has a docstring with an example, and the examples give what they show."""

import doctest
import importlib
import inspect

import pytest
import torch

MODULES = ("robustsabn", "robustsabn.attacks")
NAMES = [
    (module, name)
    for module in MODULES
    for name in importlib.import_module(module).__all__
    if not name.startswith("__")
]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_the_example_in_the_docstring_of_a_public_name_runs(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", {}, name, None, None)
    assert examples.examples, f"{module}.{name} has no example"
    said: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=said.append)
    assert not said, "".join(said)
