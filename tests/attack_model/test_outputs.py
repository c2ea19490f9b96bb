"""What a model returns is read in one way by every entry point, or refused in one line."""

import functools
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import APGD, PGD, AutoAttack, ProbabilitiesWarning, TwoClasses, accuracy
from robustsabn.errors import InputError
from tests.helpers.attacks.entry_points import ENTRIES, THREAT

X = torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(3))


class Returns(nn.Module):
    """A linear classifier of 3 classes whose logits go through `change`."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.linear = nn.Linear(36, 3)
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.linear(x.flatten(1)))


Y = Returns(lambda z: z).linear(X.flatten(1)).argmax(1)


class Named(NamedTuple):
    logits: Tensor
    aux_logits: Tensor | None


@dataclass
class Output:
    loss: None
    logits: Tensor


def without(change: Callable[[Tensor], Any]) -> Any:
    return Returns(change).eval()


READ: dict[str, Callable[[Tensor], Any]] = {
    "dict": lambda z: {"features": z.mean(1), "logits": z},
    "namedtuple": lambda z: Named(z, z * 0),
    "dataclass": lambda z: Output(None, z),
    "namespace": lambda z: SimpleNamespace(logits=z),
    "tuple of one": lambda z: (z,),
    "list of one": lambda z: [z],
    "tuple with None and a number": lambda z: (None, z, 0.5),
    "dict in a tuple": lambda z: ({"logits": z},),
    "log-probabilities": lambda z: z.log_softmax(1),
}


@functools.cache
def wanted() -> dict[str, Any]:
    """What each entry makes of plain logits."""
    return {name: entry(without(lambda z: z), X, Y) for name, entry in ENTRIES.items()}


@pytest.mark.parametrize("case", READ)
def test_logits_are_found_by_name(case: str) -> None:
    for name, entry in ENTRIES.items():
        found = entry(without(READ[case]), X, Y)
        torch.testing.assert_close(found, wanted()[name], msg=name, rtol=0, atol=1e-6)


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "features first": (lambda z: (z.repeat(1, 5), z), "a tuple of 2 outputs"),
    "members of an ensemble": (lambda z: [z, z + 1, z - 1], "a list of 3 outputs"),
    "no name": (lambda z: OrderedDict(out=z, aux=z), "an? OrderedDict with the keys out, aux"),
    "name without logits": (lambda z: {"logits": None, "out": z}, "a dict with the keys logits, out"),
    "named list": (lambda z: Output(None, [z, z]), "a Output"),  # type: ignore[arg-type]
    "nested": (lambda z: ((z, z),), "a tuple of 1 outputs"),
    "nothing": (lambda z: None, "a NoneType"),
    "pixels": (lambda z: z[..., None, None], "flatten or pool"),
    "whole numbers": (lambda z: z.argmax(1)[:, None] == torch.arange(3), "floating logits"),
    "integers": (lambda z: (100 * z).long(), "int64"),
    "complex": (lambda z: z + 0j, "complex64"),
    "another batch": (lambda z: z[:-1], r"\(15, 3\).* for 16 images"),
    "elsewhere": (lambda z: z.to("meta"), "logits on meta for images on cpu"),
    "one probability": (lambda z: z[:, :1].sigmoid(), "TwoClasses"),
    "one probability, flat": (lambda z: z[:, 0].sigmoid(), "TwoClasses"),
    "one half probability": (lambda z: z[:, 0].sigmoid().bfloat16(), "TwoClasses"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_logits_is_refused_in_one_line(case: str) -> None:
    change, words = REFUSED[case]
    for entry in ENTRIES.values():
        with pytest.raises(InputError, match=words) as caught:
            entry(without(change), X, Y)
        assert "\n" not in str(caught.value)


def test_labels_beyond_the_classes_are_refused() -> None:
    beyond = torch.full_like(Y, 2)
    for name in ENTRIES.keys() - {"pgd-last-unchecked"}:  # which never looks at labels
        with pytest.raises(InputError, match="the largest label is 2, but the model has 2 classes"):
            ENTRIES[name](without(lambda z: z[:, :2]), X, beyond)


def test_one_logit_is_two_classes_and_one_probability_is_asked_about() -> None:
    inner = Returns(lambda z: 4 * (z[:, 1] - z[:, 0])).eval()
    y = (inner(X) > 0).long()
    pair = without(lambda z: torch.stack([0 * z[:, 0], 4 * (z[:, 1] - z[:, 0])], 1))
    sure = {
        "logit": TwoClasses(inner, "logit").eval(),
        "probability": TwoClasses(
            nn.Sequential(inner, nn.Sigmoid(), nn.Unflatten(0, (-1, 1))), "probability"
        ),
        "as it is": inner,
    }
    for name, entry in ENTRIES.items():
        wanted = entry(pair, X, y)
        for model in sure.values():
            torch.testing.assert_close(entry(model.eval(), X, y), wanted, msg=name, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="3 classes"):
        TwoClasses(without(lambda z: z), "logit")(X)
    with pytest.raises(InputError, match="allowed are logit and probability"):
        TwoClasses(inner, "sigmoid")  # type: ignore[arg-type]


def test_probabilities_at_the_ends_and_outside_of_the_unit_interval() -> None:
    p = torch.tensor([0.0, 1e-30, 0.25, 0.5, 0.75, 1.0, -0.1, 1.1, math.nan])
    z = TwoClasses(lambda x: p, "probability")(torch.zeros(9, 1))
    assert z[:6].isfinite().all()
    assert (z[:, 0] == 0).all()
    assert z[:6].argmax(1).tolist() == [0, 0, 0, 0, 1, 1]
    exact = [math.log(q / (1 - q)) for q in (1e-30, 0.25, 0.5, 0.75)]
    torch.testing.assert_close(z[1:5, 1].double(), torch.tensor(exact, dtype=torch.float64))
    assert z[6:, 1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [3, 1000])
def test_probabilities_of_every_dtype_are_said(dtype: torch.dtype, classes: int) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, classes), nn.Softmax(1)).to(dtype).eval()
    y = model(X.to(dtype)).argmax(1)
    report = AutoAttack(THREAT, version="custom", attacks=[APGD(THREAT, steps=1)])(model, X, y)
    assert "softmax" in [flag.name for flag in report.flags]
    for attack in (PGD(THREAT, steps=1), APGD(THREAT, steps=1)):
        with pytest.warns(ProbabilitiesWarning, match="sum to 1") as caught:
            attack(model, X, y)
        assert caught[0].filename == __file__


def test_a_sigmoid_for_each_class_is_said_and_logits_are_not() -> None:
    model = without(lambda z: (9 * z).sigmoid())
    report = AutoAttack(THREAT, version="custom", attacks=[APGD(THREAT, steps=1)])(model, X, Y)
    assert "sigmoid" in [flag.name for flag in report.flags]
    with pytest.warns(ProbabilitiesWarning, match="each class"):
        PGD(THREAT, steps=1)(model, X, Y)
    for change in (lambda z: z, lambda z: z.relu(), lambda z: (9 * z).sigmoid() * 1.01):
        PGD(THREAT, steps=1)(without(change), X, Y)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_said(value: float) -> None:
    model = without(lambda z: torch.where(torch.arange(len(z))[:, None] == 2, value, z))
    for name in ("pgd", "apgd", "apgd-t", "fab", "fab-t", "square"):
        with pytest.raises(InputError, match="NaN or infinite logits for 1 of 16"):
            ENTRIES[name](model, X, Y)
    report = AutoAttack(THREAT, version="custom", attacks=["apgd-ce"])(model, X, Y)
    assert "nan-logits" in [flag.name for flag in report.flags]
    assert accuracy(model, X, Y) < 1
