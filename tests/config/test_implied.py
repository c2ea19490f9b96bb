"""A method that trains one route, set alone, means the network as it is."""

from typing import Any

import pytest

from robustsabn.trainers.adversarial.evaluation.trained_routes import plain_note
from robustsabn.trainers.tasks import load_config


@pytest.mark.parametrize(
    ("config", "overrides", "norm"),
    [
        ("digits", ["method=pgd"], "none"),
        ("digits", [{"method": {"name": "standard"}}], "none"),
        ("digits", ["method.name=free"], "none"),
        ({"method": "pgd"}, [], "none"),
        ({"method": {"name": "n-fgsm"}}, ["epochs=2"], "none"),
        ("digits", ["method=pgd", "norm=sabn"], "sabn"),
        ({"method": "pgd", "norm": "auxbn"}, [], "auxbn"),
        ({"method": "pgd"}, ["norm=bn"], "bn"),
        ("digits", ["method=trades"], "saauxbn"),
        ("digits", [], "saauxbn"),
        ({}, ["method.forward=separate"], "saauxbn"),
    ],
)
def test_the_norm_of_a_method(config: Any, overrides: list[Any], norm: str) -> None:
    loaded: Any = load_config(config, overrides)
    assert loaded.norm == norm
    line = plain_note(loaded)
    assert (line is None) == (norm != "none")
    if line is not None:
        assert "trains one route: the network stays as it is (norm=none)" in line
