"""The libraries themselves, where they are installed: a linear model, whose optimum is known."""

import importlib.util
from typing import Any

import pytest
import torch

from robustsabn.attacks import ThreatModel
from robustsabn.attacks.adapters import foreign, foreign_report, official
from robustsabn.errors import InputError, MissingExtraError
from tests.helpers.attacks.networks import conv_case, linear_case

LINEAR_PGD = [
    ("advertorch:LinfPGDAttack", "Linf", {"nb_iter": 20, "eps_iter": 0.005}),
    ("advertorch:PGDAttack", "L2", {"nb_iter": 40, "eps_iter": 0.1}),
    ("foolbox:LinfPGD", "Linf", {"steps": 60}),
    ("foolbox:L2PGD", "L2", {"steps": 80}),
    ("foolbox:L2FMNAttack", "L2", {"steps": 100}),
    ("torchattacks:PGD", "Linf", {"steps": 20, "alpha": 0.005}),
    ("torchattacks:APGD", "L2", {"steps": 40}),
]


def needs(*names: str) -> None:
    if not any(importlib.util.find_spec(name) for name in names):
        pytest.skip(f"{names[0]} is not installed")


@pytest.mark.parametrize(("spec", "norm", "options"), LINEAR_PGD, ids=[case[0] for case in LINEAR_PGD])
def test_attacks_find_what_a_linear_model_allows(spec: str, norm: Any, options: dict[str, Any]) -> None:
    needs(spec.partition(":")[0])
    model, x, y = linear_case((3, 6, 6), 2, 24)  # two classes: every loss has one gradient
    distance = model.distance(x, y, norm)
    eps = float(distance.median())
    attack = foreign(spec, ThreatModel(norm, eps), options)
    report = foreign_report(attack, model, x, y, batch_size=10)
    assert report.robust[distance > eps * 1.001].all()
    found = ~report.robust[distance < 0.9 * eps]
    assert len(found) > 3
    assert found.all()
    assert report.attacks[0].forwards > 0
    assert report.attacks[0].backwards > 0


@pytest.mark.parametrize(
    ("spec", "norm", "said"),
    [
        ("advertorch:L2PGDAttack", "Linf", "attack in L2"),
        ("advertorch:LinfPGDAttack", "Linf", "eps_iter, loss_fn, nb_iter, rand_init"),
        ("foolbox:LinfPGD", "L2", "attack in Linf"),
        ("foolbox:LInfFMNAttack", "L1", "attack in Linf"),
        ("foolbox:LinfPGD", "Linf", "abs_stepsize, random_start, rel_stepsize, steps"),
        ("torchattacks:PGDL2", "Linf", "attack in L2"),
        ("torchattacks:PGD", "L1", "attack in Linf"),
        ("torchattacks:PGD", "Linf", "alpha, random_start, steps"),
    ],
)
def test_what_a_class_does_not_take_is_refused(spec: str, norm: Any, said: str) -> None:
    needs(spec.partition(":")[0])
    with pytest.raises(InputError, match=said):
        foreign(spec, ThreatModel(norm, 0.1), {"nonsense": 1})


def test_the_official_code_on_a_linear_model_leaves_no_trace() -> None:
    needs("pyautoattack", "autoattack")
    model, x, y = linear_case((3, 6, 6), 4, 7)
    y[0] = (y[0] + 1) % 4
    distance = model.distance(x, y, "Linf")
    eps = float(distance[1:].median())
    state = torch.get_rng_state()
    threat = ThreatModel("Linf", eps)
    names = ["apgd-ce", "fab-t"]
    report = official(model, x, y, threat, version="custom", attacks=names, batch_size=4)
    again = official(
        model, x, y, threat, version="custom", attacks=names, batch_size=4, ids=torch.arange(30, 37)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(report.x_adv, again.x_adv)
    assert again.ids[0] == 30
    assert report.engine == "official"
    assert not report.clean[0]
    assert report.robust[1:][distance[1:] > eps * 1.001].all()
    assert not report.robust[1:][distance[1:] < 0.99 * eps].any()
    assert [cost.name for cost in report.attacks] == names
    assert report.attacks[0].points == 6
    assert report.attacks[1].points == 6 - report.attacks[0].broken
    # 1 clean pass, 5 + 1 + 1 checks on the first batch, 5 restarts, and one forward at the end
    assert report.attacks[0].backwards >= 5 * 101 * report.attacks[1].points


def test_what_the_official_code_cannot_do_is_said_before_it_starts() -> None:
    needs("pyautoattack", "autoattack")
    model, x, y = conv_case(3, 4)
    linf = ThreatModel("Linf", 0.01)
    cases: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("3 classes", (model, x, y, linf), {}),
        ("no version 'fast'", (model, x, y, linf), {"version": "fast"}),
        ("version 'custom'", (model, x, y, linf), {"attacks": ["square"]}),
        ("no attack 'squares'", (model, x, y, linf), {"version": "custom", "attacks": ["squares"]}),
        ("box", (model, x, y, ThreatModel("Linf", 0.01, (-1.0, 1.0))), {}),
        (r"\(N, C, H, W\)", (model, x.flatten(1), y, linf), {}),
    ]
    for said, arguments, options in cases:
        with pytest.raises(InputError, match=said):
            official(*arguments, **options)


def test_warnings_of_the_official_code_become_flags() -> None:
    needs("pyautoattack", "autoattack")
    model, x, y = conv_case(10, 4)
    soft = torch.nn.Sequential(model, torch.nn.Softmax(1)).eval()
    report = official(
        soft, x, y, ThreatModel("Linf", 0.3), version="custom", attacks=["apgd-ce"], batch_size=4
    )
    assert any("probability distribution" in flag.message for flag in report.flags)


def test_without_the_official_code_its_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model, x, y = conv_case(10, 4)
    with pytest.raises(MissingExtraError, match=r"pip install 'robustsabn\[pyautoattack\]'"):
        official(model, x, y, ThreatModel("Linf", 0.01))
