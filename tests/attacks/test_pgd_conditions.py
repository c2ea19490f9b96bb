"""PGD with generators, memory formats, low precision, compiled models, inference mode, and no images."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import PGD, verify
from robustsabn.attacks.losses import cross_entropy
from robustsabn.attacks.model.logits import value_and_gradient
from tests.helpers.attacks.reference import NORMS, small_cnn, threat_of


def test_determinism_and_generators() -> None:
    model = small_cnn()
    x = torch.rand(4, 3, 6, 6)
    y = model(x).argmax(1)
    attack = PGD(threat_of("Linf"), steps=2)

    def seeded(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return attack(model, x, y)

    assert torch.equal(seeded(3), seeded(3))
    assert not torch.equal(seeded(3), seeded(4))
    state = torch.get_rng_state()
    first = attack(model, x, y, generator=torch.Generator().manual_seed(7))
    built = PGD(threat_of("Linf"), steps=2, generator=torch.Generator().manual_seed(7))(model, x, y)
    attack(model, x, y, delta0=torch.zeros_like(x))
    assert torch.equal(first, built)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("norm", NORMS)
def test_memory_format_is_kept_and_changes_nothing(norm: str) -> None:
    model = small_cnn()
    x = torch.rand(4, 3, 6, 6)
    y = model(x).argmax(1)
    last = x.contiguous(memory_format=torch.channels_last)
    runs: list[dict[str, Any]] = [{}, {"early_stop": True}, {"restarts": 2}, {"keep": "last"}]
    for options in runs:
        attack = PGD(threat_of(norm), steps=3, **options)
        plain = attack(model, x, y, generator=torch.Generator().manual_seed(0))
        other = attack(model, last, y, generator=torch.Generator().manual_seed(0))
        assert other.is_contiguous(memory_format=torch.channels_last)
        assert plain.is_contiguous()
        torch.testing.assert_close(other, plain, rtol=0, atol=1e-4)


def test_low_precision_models_keep_float32_iterates() -> None:
    model = small_cnn()
    x = torch.rand(6, 3, 6, 6)
    y = model(x).argmax(1)
    threat = threat_of("Linf", 0.05)
    half = copy.deepcopy(model).bfloat16()
    adv = PGD(threat)(half, x, y)
    assert adv.dtype == torch.float32
    assert threat.contains(adv, x).all()
    assert (cross_entropy(model(adv), y) > cross_entropy(model(x), y)).all()

    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.dtypes = model, set[torch.dtype]()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x)
            self.dtypes.add(out.dtype)
            return out

    seen = Seen().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adv = PGD(threat, loss="kl")(seen, x, y)
        loss = model(x).float().sum()
    assert seen.dtypes == {torch.bfloat16}
    assert adv.dtype == torch.float32
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_compiled_model() -> None:
    model = small_cnn()
    x = torch.rand(4, 3, 6, 6)
    y = model(x).argmax(1)
    attack = PGD(threat_of("Linf"), steps=4)
    generator = torch.Generator()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    adv = attack(compiled, x, y, generator=generator.manual_seed(1))
    torch.testing.assert_close(
        adv, attack(model, x, y, generator=generator.manual_seed(1)), rtol=0, atol=1e-5
    )
    with torch.compiler.set_stance("fail_on_recompile"):
        attack(compiled, x, y)


def test_under_no_grad_and_inference_mode() -> None:
    model = small_cnn()
    x = torch.rand(4, 3, 6, 6)
    y = model(x).argmax(1)
    attack = PGD(threat_of("Linf"), steps=2)
    plain = attack(model, x, y, generator=torch.Generator().manual_seed(1))
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            adv = attack(model, x, y, generator=torch.Generator().manual_seed(1))
            _, _, grad = value_and_gradient(model, x, lambda logits: cross_entropy(logits, y))
        assert torch.equal(adv, plain)
        assert not adv.is_inference()
        assert grad.abs().sum() > 0


def test_empty_batch_and_plain_functions() -> None:
    w = torch.randn(4, 3)
    threat = threat_of("L2", 0.2)
    assert PGD(threat)(lambda x: x @ w, torch.rand(0, 4), torch.zeros(0, dtype=torch.long)).shape == (0, 4)
    x = torch.rand(50, 4)
    y = (x @ w).argmax(1)
    adv = PGD(threat)(lambda x: x @ w, x, y)
    assert verify(lambda x: x @ w, adv, x, y, threat).any()
