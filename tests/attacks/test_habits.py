"""Calls as other libraries spell them are answered with the line to write here."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from robustsabn.attacks import APGD, FAB, FGSM, PGD, AutoAttack, Square, ThreatModel, accuracy
from robustsabn.attacks.habits import answered
from robustsabn.errors import InputError

BALL = ThreatModel("Linf", 8 / 255)
X, Y = torch.linspace(0, 1, 6 * 12).reshape(6, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
NET: Any = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
PAIRS: Any = TensorDataset(X, Y)
LOADER: Any = DataLoader(PAIRS, batch_size=4)
# as their own documentation writes them; Any, since type checkers see the mistake
ATTACKS: dict[str, Any] = {"pgd": PGD, "auto": AutoAttack, "apgd": APGD, "fgsm": FGSM, "threat": ThreatModel}


@pytest.mark.parametrize(
    ("call", "line"),
    [
        # torchattacks
        (
            lambda a: a["pgd"](NET, eps=8 / 255, alpha=2 / 255, steps=10),
            "PGD(ThreatModel('Linf', 8 / 255), steps=10, step_size=2 / 255)(model, x, y)",
        ),
        (lambda a: a["pgd"](NET, 4 / 255), "PGD(ThreatModel('Linf', 4 / 255))(model, x, y)"),
        (lambda a: a["fgsm"](NET, eps=0.3), "FGSM(ThreatModel('Linf', 0.3))(model, x, y)"),
        (lambda a: a["pgd"](BALL)(X, Y), "write attack(model, x, y)"),
        (lambda a: a["pgd"](BALL)(X, Y, NET), "the network comes first: attack(model, x, y)"),
        # the official AutoAttack
        (
            lambda a: a["auto"](NET, norm="L2", eps=0.5, version="standard", log_path="log.txt"),
            "AutoAttack(ThreatModel('L2', 0.5), version='standard')(model, x, y)",
        ),
        (lambda a: a["auto"](NET, "l1", 12), "AutoAttack(ThreatModel('L1', 12))(model, x, y)"),
        # foolbox, ART, CleverHans
        (lambda a: a["pgd"](BALL)(NET, X, Y, epsilons=0.03), "write attack(model, x, y)"),
        (
            lambda a: a["pgd"](NET, norm="inf", eps_step=1 / 255, max_iter=7, eps=3 / 255),
            "PGD(ThreatModel('Linf', 3 / 255), steps=7, step_size=1 / 255)(model, x, y)",
        ),
        (
            lambda a: a["apgd"](NET, norm="L2", eps=1, n_restarts=2),
            "APGD(ThreatModel('L2', 1), restarts=2)(model, x, y)",
        ),
        # what is missing or misspelt
        (lambda a: a["pgd"](8 / 255), "PGD(ThreatModel('Linf', 8 / 255))(model, x, y)"),
        (lambda a: a["pgd"](), "PGD(ThreatModel('Linf', 8 / 255))(model, x, y)"),
        (lambda a: a["pgd"](BALL, step=3), "(did you mean steps?)"),
        (lambda a: a["threat"]("Linf"), "write ThreatModel('Linf', 8 / 255)"),
        # loaders
        (lambda a: a["pgd"](BALL)(NET, LOADER), "for x, y in loader: x_adv = attack(model, x, y)"),
        (lambda a: a["pgd"](BALL)(NET, LOADER, Y), "for x, y in loader: x_adv = attack(model, x, y)"),
        (lambda a: a["auto"](BALL)(NET, X), "give tensors x and y, or a DataLoader alone"),
        (lambda a: a["auto"](BALL)(NET, PAIRS), "give torch.utils.data.DataLoader(dataset, batch_size=500)"),
        (lambda a: a["auto"](BALL)(NET, []), "no batch"),
        (lambda a: a["auto"](BALL)(NET, 3), "a DataLoader of batches (x, y)"),
    ],
)
def test_the_line_to_write_is_named(call: Callable[[dict[str, Any]], object], line: str) -> None:
    with pytest.raises(InputError) as caught:
        call(ATTACKS)
    assert line in str(caught.value)


@pytest.mark.parametrize("attack", [PGD(BALL), FGSM(BALL), AutoAttack(BALL), FAB(BALL), Square(BALL)])
def test_methods_of_other_libraries_are_answered(attack: Any) -> None:
    for name in ("run_standard_evaluation", "perturb", "generate"):
        assert not hasattr(attack, name)
        with pytest.raises(AttributeError, match=r"an attack is called: .*attack\(model, x, y\)"):
            getattr(attack, name)(X, Y)
    with pytest.raises(AttributeError) as caught:
        attack.other  # noqa: B018
    assert "attack(model" not in str(caught.value)


def test_the_lines_that_are_named_run() -> None:
    torch.manual_seed(0)
    x_adv = PGD(ThreatModel("Linf", 8 / 255), steps=10, step_size=2 / 255)(NET, X, Y)
    assert BALL.contains(x_adv, X).all()


def test_a_loader_gives_the_same_report_as_its_tensors() -> None:
    attack = AutoAttack(BALL, version="custom", attacks=["apgd-ce"])
    assert attack(NET, LOADER).same_verdicts(attack(NET, X, Y))
    assert accuracy(NET, LOADER) == accuracy(NET, X, Y)


def test_errors_inside_a_function_keep_their_type() -> None:
    @answered("broken()")
    def broken() -> None:
        raise TypeError("of the function")

    with pytest.raises(TypeError, match="of the function"):
        broken()


def test_signatures_copies_and_pickles_are_as_before() -> None:
    assert list(inspect.signature(PGD).parameters)[:2] == ["threat", "steps"]
    assert list(inspect.signature(PGD(BALL)).parameters)[:3] == ["model", "x", "y"]
    for again in (copy.copy(PGD(BALL, steps=3)), pickle.loads(pickle.dumps(PGD(BALL, steps=3)))):
        assert (again.steps, again.threat.eps) == (3, BALL.eps)


@pytest.mark.parametrize(
    ("given", "norm"),
    [
        ("linf", "Linf"),
        ("LINF", "Linf"),
        ("l2", "L2"),
        ("l1", "L1"),
        (float("inf"), "Linf"),
        (2, "L2"),
        ("1", "L1"),
    ],
)
def test_norms_are_spelled_in_any_case(given: Any, norm: str) -> None:
    assert ThreatModel(given, 0.1).norm == norm
