"""A model gets a copy of the images, in its dtype, in any mode of torch; failures are one line."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import APGD, PGD, AutoAttack
from robustsabn.errors import InputError
from tests.helpers.attacks.entry_points import ENTRIES, THREAT
from tests.helpers.attacks.networks import conv_case

SCRIPT: Any = torch.jit  # whose functions have no types
INNER, X, Y = conv_case(classes=4, count=16, size=8)


class InPlace(nn.Module):
    """Normalises its input where it lies, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner, self.how = INNER, how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "operators":
            x -= 0.5
            x /= 0.25
        elif self.how == "view":
            x.flatten(1).sub_(0.5).mul_(4)
        else:
            x.data.sub_(0.5).mul_(4)
        return torch.as_tensor(self.inner(x))


@pytest.mark.parametrize("how", ["operators", "view", "data"])
def test_a_forward_that_changes_its_input_changes_no_images(how: str) -> None:
    def plain(x: Tensor) -> Any:
        return INNER((x - 0.5) * 4)

    model, x = InPlace(how).eval(), X.clone()
    y = plain(x).argmax(1)
    for name, entry in ENTRIES.items():
        if how == "data" and "fab" in name:
            continue  # which needs the size of gradients, and those do not see `data`
        found, wanted = entry(model, x, y), entry(plain, X, y)
        torch.testing.assert_close(found, wanted, msg=name, rtol=0, atol=1e-5)
        assert torch.equal(x, X), name


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_every_entry_works_in_every_mode_of_torch(mode: Callable[[], Any]) -> None:
    for name, entry in ENTRIES.items():
        wanted = entry(INNER, X, Y)
        with mode():
            inside = entry(INNER, X.clone(), Y.clone())  # made inside, as a batch that is moved to its device
        assert torch.equal(torch.as_tensor(inside).clone(), torch.as_tensor(wanted)), name


def test_parameters_made_in_inference_mode_are_said() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    for name in ENTRIES:
        with pytest.raises(InputError, match="inference_mode"):
            ENTRIES[name](model.eval(), X, Y)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_other_dtypes_and_images_in_float64(dtype: torch.dtype) -> None:
    model = conv_case(classes=4, count=1, size=8)[0].to(dtype)
    y = model(X.to(dtype)).argmax(1)
    for name, entry in ENTRIES.items():
        for x in (X, X.double()):
            found = torch.as_tensor(entry(model, x, y))
            assert found.dtype == torch.bool or found.isfinite().all(), name


class Buffers(nn.Module):
    """A network without parameters, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(192, 4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.get_buffer("weight")


def compiled() -> Any:
    return torch.compile(INNER, backend="eager")


WRAPPED: dict[str, Callable[[], Any]] = {
    "function": lambda: lambda x: INNER(x),
    "data parallel": lambda: nn.DataParallel(INNER).eval(),
    "compiled": compiled,
    "traced": lambda: SCRIPT.trace(INNER, X),
    "scripted": lambda: SCRIPT.script(INNER),
    "frozen": lambda: SCRIPT.freeze(SCRIPT.script(INNER)),
    "static batch": lambda: lambda x: INNER(x.view(16, 3, 8, 8)),
    "in a train mode of its own": lambda: nn.Sequential(INNER, nn.Dropout(0.5).train()).eval(),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", WRAPPED)
def test_wrapped_models_give_what_the_network_does(case: str) -> None:
    model = WRAPPED[case]()
    for name, entry in ENTRIES.items():
        if case == "static batch" and name == "library":
            continue  # which is told the number of classes by one image
        torch.testing.assert_close(entry(model, X, Y), entry(INNER, X, Y), msg=name, rtol=0, atol=1e-5)


def test_a_network_of_buffers_gets_their_dtype() -> None:
    model = Buffers().eval()
    y = model(X.double()).argmax(1)
    assert (model(PGD(THREAT, steps=2)(model, X, y).double()).argmax(1) != y).any()


class Fails(nn.Module):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.change = nn.Linear(192, 4), change

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.change(self.linear(x.flatten(1)))
        return out


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise ValueError("no way\nback")


def strange(z: Tensor) -> Tensor:
    raise KeyError("a key\nof two lines")


FAILING: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (lambda: Fails(strange), "KeyError: 'a key"),
    "mixed dtypes": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 8).half(), nn.Linear(8, 4)),
        "must have the same dtype",
    ),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), "lazy layers"),
    "meta": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4, device="meta")), "on the device meta"),
    "other batch": (lambda: Fails(lambda z: z.view(7, 4)), "shape '\\[7, 4\\]' is invalid"),
    "other images": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(100, 4)), "shape \\(3, 8, 8\\)"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:torch.nn.modules.lazy")
@pytest.mark.parametrize("case", FAILING)
def test_models_that_fail_are_one_line(case: str) -> None:
    make, words = FAILING[case]
    for name, entry in ENTRIES.items():
        with pytest.raises(InputError, match=words) as caught:
            entry(make().eval(), X, Y)
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize("name", ["pgd", "fgsm", "apgd", "apgd-t", "fab", "fab-t", "autoattack apgd-t"])
def test_gradients_that_fail_are_one_line(name: str) -> None:
    model = Fails(Backward.apply).eval()
    with pytest.raises(InputError, match=r"gradient of the model fails .*no way back"):
        ENTRIES[name](model, X, model(X).argmax(1))


def test_a_batch_of_fixed_size_is_said_by_the_ensemble() -> None:
    model = Fails(lambda z: z.view(8, 4)).eval()
    attack = AutoAttack(THREAT, version="custom", attacks=["apgd-ce"], batch_size=8)
    with pytest.raises(InputError, match=r"16 images .* must accept batches of any size"):
        attack(model, X[:8], Y[:8])
    parts = attack(lambda x: torch.cat([model(part) for part in x.split(8)]), X[:8], model(X[:8]).argmax(1))
    assert parts.clean_accuracy == 1


def test_memory_that_runs_out_is_no_fault_of_the_model() -> None:
    def greedy(z: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    for entry in (PGD(THREAT, steps=1), APGD(THREAT, steps=1)):
        with pytest.raises(torch.OutOfMemoryError):
            entry(Fails(greedy).eval(), X, Y)


@pytest.mark.parametrize("other", ["pgd", 3, None, PGD(THREAT)])
def test_the_ensemble_takes_searches_alone(other: Any) -> None:
    with pytest.raises(InputError, match=r"cannot be part of AutoAttack|unknown"):
        AutoAttack(THREAT, version="custom", attacks=[other])
