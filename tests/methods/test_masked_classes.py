"""Classes ruled out by logits of -inf: losses and gradients over the other classes, by loops in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks.losses import kl
from robustsabn.trainers.methods import Mart, Trades
from tests.helpers.methods import Row, X, Y, bench_for, divergence, linear, log_softmax, mean, pixels

KEPT = [0, 2, 3]
LABELS = torch.tensor(KEPT)[Y]


class Masked(nn.Module):
    """Five classes, of which two are ruled out; the others are those of `linear`."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, x: Tensor) -> Tensor:
        out = torch.full((len(x), 5), -torch.inf, dtype=x.dtype)
        return out.index_copy(1, torch.tensor(KEPT), self.inner(x))


def present(log_p: Row) -> Row:
    return [v for v in log_p if v != -math.inf]


@pytest.mark.parametrize("method", [Trades(), Mart()])
@pytest.mark.parametrize("forward", ["split", "separate"])
def test_losses_and_gradients_are_those_over_the_classes_that_are_left(
    method: Trades | Mart, forward: str
) -> None:
    found: list[Tensor | None] = []
    wanted: list[Tensor | None] = []
    for model, y, results in ((Masked(), LABELS, found), (linear(), Y, wanted)):
        losses = type(method)(forward=forward).losses(bench_for(model, 3, eps=0.1, steps=3), X, y)  # type: ignore[arg-type]
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        results += [*losses.values(), *(p.grad for p in model.parameters())]
    for one, other in zip(found, wanted, strict=True):
        assert isinstance(one, Tensor)
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_trades_equals_the_loop_over_the_classes_that_are_left() -> None:
    bench = bench_for(Masked(), 3, eps=0.1, steps=3)
    x_adv = Trades().craft(bench, X, LABELS)
    loss = Trades(beta=2.0).objective(bench, X, x_adv, LABELS)["loss"]
    clean, adv = ([log_softmax(row) for row in pixels(x)] for x in (X, x_adv))
    fit = mean([-row[y] for row, y in zip(clean, Y.tolist(), strict=True)])
    apart = mean([divergence(p, q) for p, q in zip(clean, adv, strict=True)])
    assert loss.item() == pytest.approx(fit + 2 * apart, rel=1e-12)
    assert apart > 1e-3


@pytest.mark.parametrize("absent", [[], [0], [1, 3], [0, 2, 3]])
def test_divergence_and_its_gradients_equal_the_loop(absent: list[int]) -> None:
    torch.manual_seed(4)
    z, r = (torch.randn(6, 5, dtype=torch.float64) for _ in range(2))
    z[:, absent] = r[:, absent] = -torch.inf
    z.requires_grad_()
    r.requires_grad_()
    kl(z, r).sum().backward()  # type: ignore[no-untyped-call]
    for row in range(6):
        here = [k for k in range(5) if k not in absent]
        q, p = ([t.detach()[row, k].item() for k in here] for t in (z, r))
        log_q, log_p = ([v - math.log(sum(math.exp(w) for w in row)) for v in row] for row in (q, p))
        apart = divergence(log_p, log_q)
        assert kl(z, r)[row].item() == pytest.approx(apart, rel=1e-10)
        for k, a, b in zip(here, log_p, log_q, strict=True):
            assert z.grad is not None
            assert r.grad is not None
            assert z.grad[row, k].item() == pytest.approx(math.exp(b) - math.exp(a), abs=1e-12)
            assert r.grad[row, k].item() == pytest.approx(math.exp(a) * (a - b - apart), abs=1e-12)
    for grad in (z.grad, r.grad):
        assert grad is not None
        assert (grad[:, absent] == 0).all()


def test_a_class_that_the_images_under_attack_rule_out_alone_is_infinitely_far() -> None:
    reference, logits = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -torch.inf]])
    assert kl(logits, reference).item() == math.inf
    assert kl(reference, logits).item() == pytest.approx(math.log(3 / 2))
