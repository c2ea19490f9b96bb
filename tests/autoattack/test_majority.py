"""Verdicts on random models whose true value is known, in closed form or by counting."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import APGD, AutoAttack, Report, Square, ThreatModel
from robustsabn.attacks.autoattack.majority import Votes, convincing, vote
from robustsabn.attacks.model.verifier import Verifier
from tests.helpers.attacks.autoattack_case import THREAT, attack
from tests.helpers.attacks.networks import ATTACK_NORMS, DUAL, Linear, conv_case


class Coin(nn.Module):
    """Right with probability `p`, whatever the image; the loss has a slope all the same."""

    def __init__(self, p: float, size: int = 16) -> None:
        super().__init__()
        self.p, self.w = p, nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        right = (torch.rand(len(x)) < self.p).float()
        slope: Tensor = 1e-3 * (x.flatten(1) @ self.w)
        return torch.stack([right + slope, 1 - right, *(-torch.ones_like(right) for _ in "12")], 1)


class NoisyLinear(Linear):
    """Two classes; Gaussian noise of deviation sigma on the input."""

    sigma = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.sigma * torch.randn_like(x))

    def error(self, x: Tensor, y: Tensor, norm: str, eps: float) -> Tensor:
        """The largest probability of a wrong answer within eps, without the box: Phi(-margin / deviation)."""
        slope = (self.weight[0] - self.weight[1]).detach().double()
        gap = (x.flatten(1).double() @ slope + (self.bias[0] - self.bias[1]).detach()) * (1 - 2 * y)
        gap = gap - eps * torch.linalg.vector_norm(slope, DUAL[norm])
        error: Tensor = torch.special.ndtr(-gap / (self.sigma * slope.norm()))
        return error


class OneOf(nn.Module):
    """Each image goes to one of nine experts; `fragile` of them give class 1 if the first pixel rises."""

    def __init__(self, fragile: int) -> None:
        super().__init__()
        self.fragile, self.w = fragile, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        z = 20 * self.w * (x.flatten(1)[:, 0] - 0.53)
        fooled = torch.rand(len(x)) * 9 < self.fragile
        return torch.stack([torch.zeros_like(z), torch.where(fooled, z, 0.01 * z - 1)], 1)


def rand(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, steps: int = 20) -> Report:
    """Version rand with shorter searches."""
    evaluation = AutoAttack(threat, version="rand")
    evaluation.attacks[:] = [APGD(threat, loss=loss, eot=10, steps=steps) for loss in ("ce", "dlr")]
    return evaluation(model.eval(), x, y)


@pytest.mark.parametrize("p", [0.3, 0.6, 0.7])
def test_a_coin_is_what_it_mostly_says(p: float) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(16, 1, 4, 4), torch.zeros(16, dtype=torch.long)
    report = rand(Coin(p), x, y, ThreatModel("Linf", 1e-4))
    assert report.clean_accuracy == report.robust_accuracy == (p > 0.5)
    assert torch.equal(report.margin > 0, report.robust)
    assert torch.equal(report.adversarial_prediction == 0, report.robust)
    assert torch.equal(report.x_adv, x)
    assert 11 <= report.draws[0] <= report.draws[1] <= 1001
    assert report.to_dict()["draws"] == list(report.draws)
    said = next(flag.message for flag in report.flags if flag.name == "majority")
    assert f"by majority over {report.draws[0]} to {report.draws[1]} new forwards" in said


def test_other_versions_vote_as_well_where_a_model_is_random() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(16, 1, 5, 5), torch.zeros(16, dtype=torch.long)
    threat = ThreatModel("Linf", 1e-4)
    chosen: list[Any] = [APGD(threat, steps=10), Square(threat, steps=40)]
    report = AutoAttack(threat, version="custom", attacks=chosen)(Coin(0.7, 25).eval(), x, y)
    assert report.robust_accuracy == 1
    assert next(flag for flag in report.flags if flag.name == "randomised").severity == "warning"


@pytest.mark.parametrize("norm", ATTACK_NORMS)
def test_input_noise_on_a_linear_model_in_closed_form(norm: str) -> None:
    g = torch.Generator().manual_seed(1)
    weight = torch.randn(2, 16, generator=g)
    model = NoisyLinear(weight, -0.5 * weight.sum(1))
    x = 0.5 + 0.1 * torch.randn(64, 1, 4, 4, generator=g).clamp(-1.5, 1.5)
    y = Linear.forward(model, x).argmax(1)
    margin = Linear.forward(model, x).detach().diff(dim=1).abs()[:, 0]
    eps = float(margin.median() / torch.linalg.vector_norm(weight[0] - weight[1], DUAL[norm]))
    clean, worst = model.error(x, y, norm, 0), model.error(x, y, norm, eps)
    torch.manual_seed(0)
    report = rand(model, x, y, ThreatModel(norm, eps))  # type: ignore[arg-type]
    robust, breakable = worst < 0.44, (worst > 0.56) & (clean < 0.44)
    assert robust.sum() > 10
    assert breakable.sum() > 10
    assert report.robust[robust].all(), "broken by luck"
    assert not report.robust[breakable].any(), "not found"
    assert report.clean[clean < 0.44].all()


@pytest.mark.parametrize(("fragile", "accuracy"), [(3, 1.0), (4, 1.0), (5, 0.0), (9, 0.0)])
def test_a_random_choice_of_experts_is_as_robust_as_most_of_them(fragile: int, accuracy: float) -> None:
    torch.manual_seed(0)
    x, y = torch.full((24, 1, 4, 4), 0.5), torch.zeros(24, dtype=torch.long)
    report = rand(OneOf(fragile), x, y, ThreatModel("Linf", 0.1))
    assert report.clean_accuracy == 1
    assert abs(report.robust_accuracy - accuracy) <= 1 / 24  # 5 of 9 lies 3.5 deviations from a tie


def test_a_model_that_is_not_random_gets_the_verdicts_of_other_versions() -> None:
    model, x, y = conv_case(count=40)
    evaluation = AutoAttack(THREAT, version="rand")
    evaluation.attacks[:] = [APGD(THREAT, steps=4)]
    found = evaluation(model, x, y)
    plain = AutoAttack(THREAT, version="custom", attacks=[APGD(THREAT, steps=4)])(model, x, y)
    assert found.same_verdicts(plain)
    torch.testing.assert_close(found.margin, plain.margin)
    assert found.attacks[0].checks == 42 * found.attacks[0].broken  # 31 for the claim, eleven for the verdict
    assert found.draws == (11, 11)
    assert plain.draws == (1, 1)


def test_votes_end_when_they_are_clear() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(400, 1, 4, 4), torch.zeros(400, dtype=torch.long)
    for p, most in ((0.0, 11), (1.0, 11), (0.8, 101), (0.5, 1001)):
        verifier = Verifier(Coin(p).eval(), x, batch_size=400)
        votes = vote(verifier, x, y)
        assert (votes.asked % 10 == 1).all()
        assert votes.asked.float().quantile(0.9) <= most
        assert torch.equal(votes.margin < 0, votes.wrong)
        assert votes.wrong.float().mean() == pytest.approx(float(p <= 0), abs=0.01) or p == 0.5
        assert bool(votes.close.any()) == (p == 0.5)
    for p, share in ((0.0, 1.0), (0.55, (0.45 / 0.55) ** 31), (0.8, 0.0)):
        granted, asked = convincing(Verifier(Coin(p).eval(), x, batch_size=400), x, y)
        assert granted.float().mean() == pytest.approx(share, abs=0.01)
        assert asked.max() <= 501


def test_nan_is_wrong_on_clean_images_and_no_success_on_others() -> None:
    x, y = torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long)
    verifier = Verifier(lambda images: Coin(1.0)(images) * math.nan, x, batch_size=16)
    assert vote(verifier, x, y, unusable_is_wrong=True).wrong.all()
    assert not vote(verifier, x, y).wrong.any()


def test_votes_of_several_processes_are_put_in_order() -> None:
    rows = torch.arange(7)
    whole = Votes(asked=rows, errors=rows % 2, prediction=rows * 3, margin=rows.float() / 2)
    parts = [whole.take(rows[start::3]) for start in range(3)]
    together = Votes.interleaved(parts)
    assert all(torch.equal(column, whole.columns()[name]) for name, column in together.columns().items())


def test_a_finished_evaluation_is_not_voted_on_again(tmp_path: Path) -> None:
    model, x, y = conv_case(count=24)

    class Shaken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            z: Tensor = model(images)
            return z + z.std() * torch.randn_like(z)

    first = attack(Shaken().eval(), x, y, folder=tmp_path, version="custom", attacks=[APGD(THREAT, steps=3)])
    for _ in range(2):
        again = attack(
            Shaken().eval(),
            x,
            y,
            folder=tmp_path,
            version="custom",
            attacks=[APGD(THREAT, steps=3)],
            resume=True,
        )
        assert again.same_verdicts(first)
        assert torch.equal(again.margin, first.margin)
        assert again.draws == first.draws
