"""AutoAttack: the same verdicts however the work is cut, verified, and with flags."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import (
    APGD,
    APGDT,
    FABT,
    AutoAttack,
    ProgressEvent,
    Square,
    ThreatModel,
    verify,
)
from robustsabn.attacks.model.verifier import Verifier
from robustsabn.errors import InputError
from tests.helpers.attacks.autoattack_case import THREAT, Wrapped, attack
from tests.helpers.attacks.networks import conv_case


def test_the_same_whatever_the_batch_size() -> None:
    model, x, y = conv_case(count=70)
    reports = [attack(model, x, y, batch_size=size) for size in (1, 32, 500, "auto")]
    assert 0 < int(reports[0].robust.sum()) < int(reports[0].clean.sum())
    for report in reports[1:]:
        assert report.same_verdicts(reports[0])
        assert [(a.points, a.broken, a.forwards, a.backwards, a.checks) for a in report.attacks] == [
            (a.points, a.broken, a.forwards, a.backwards, a.checks) for a in reports[0].attacks
        ]


def test_verdicts_on_two_threads_are_the_same_whatever_the_batch_size() -> None:
    model, x, y = conv_case(count=64)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        few: dict[str, Any] = {
            "version": "custom",
            "attacks": [APGD(THREAT, steps=4), Square(THREAT, steps=8)],
        }
        reports = [attack(model, x, y, batch_size=size, **few) for size in (16, 64)]
    finally:
        torch.set_num_threads(before)
    assert 0 < int(reports[0].robust.sum()) < int(reports[0].clean.sum())
    assert torch.equal(reports[0].robust, reports[1].robust)
    torch.testing.assert_close(reports[0].margin[reports[0].robust], reports[1].margin[reports[0].robust])


def test_a_subset_and_another_order_get_the_verdicts_of_the_whole() -> None:
    model, x, y = conv_case(count=48)
    whole = attack(model, x, y)
    some = torch.randperm(48, generator=torch.Generator().manual_seed(3))[:33]
    part = attack(model, x[some], y[some], ids=some)
    assert torch.equal(part.robust, whole.robust[some])
    assert torch.equal(part.x_adv, whole.x_adv[some])
    assert torch.equal(part.iteration, whole.iteration[some])


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.02), ("L2", 0.4), ("L1", 4.0)])
def test_the_report_is_what_the_untouched_model_says(norm: Any, eps: float) -> None:
    model, x, y = conv_case(count=40)
    threat = ThreatModel(norm, eps)
    report = attack(model, x, y, threat)
    logits = model(x).detach()
    assert torch.equal(report.clean, logits.argmax(1) == y)
    broken = report.clean & ~report.robust
    assert int(broken.sum()) > 0
    assert verify(model, report.x_adv[broken], x[broken], y[broken], threat).all()
    assert torch.equal(report.x_adv[~broken], x[~broken])
    adversarial = model(report.x_adv).detach()
    assert torch.equal(report.adversarial_prediction, adversarial.argmax(1))
    own = adversarial.gather(1, y[:, None])[:, 0]
    others = adversarial.scatter(1, y[:, None], -torch.inf).amax(1)
    torch.testing.assert_close(report.margin, own - others)
    torch.testing.assert_close(report.distance, threat.distance(report.x_adv, x))
    assert ((report.broken_by >= 0) == broken).all()
    assert ((report.iteration >= 1) == broken).all()
    assert sum(cost.broken for cost in report.attacks) == int(broken.sum())
    assert report.attacks[-1].robust_accuracy == report.robust_accuracy
    low, high = report.confidence
    assert low < report.robust_accuracy < high


def test_nothing_of_the_caller_is_changed() -> None:
    model, x, y = conv_case(count=20)
    first_layer, second_layer = list(model.children())[:2]
    first_layer.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = x.clone()
    report = attack(model, x, y)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, first)
    assert [first_layer.training, second_layer.training] == [True, False]
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    (flag,) = [flag for flag in report.flags if flag.name == "train-mode"]
    assert (flag.severity, flag.count) == ("warning", 1)


def test_searching_on_a_folded_copy_changes_no_verdict_of_the_model_itself() -> None:
    model, x, y = conv_case(count=64)
    with_copy, without = attack(model, x, y), attack(model, x, y, fold=False)
    assert with_copy.versions["search"] == "folded copy"
    assert without.versions["search"] == "the model"
    assert torch.equal(with_copy.clean, without.clean)
    assert int((with_copy.robust != without.robust).sum()) <= 1  # another order of float32 sums
    broken = with_copy.clean & ~with_copy.robust
    assert verify(model, with_copy.x_adv[broken], x[broken], y[broken], THREAT).all()
    hooked, _, _ = conv_case(count=1)
    hooked.register_forward_hook(lambda module, args, output: None)
    assert "hooks" in attack(hooked, x, y).versions["search"]


def test_a_search_in_half_precision_says_so() -> None:
    model, x, y = conv_case(count=16)
    (flag,) = [flag for flag in attack(model, x, y, autocast=True).flags if flag.name == "autocast"]
    assert flag.severity == "note"
    assert "bfloat16" in flag.message
    assert "autocast" not in [flag.name for flag in attack(model, x, y).flags]


def test_progress_counts_down() -> None:
    model, x, y = conv_case(count=40)
    events: list[ProgressEvent] = []
    report = attack(model, x, y, batch_size=16, progress=events.append)
    assert events[-1].robust == int(report.robust.sum())
    for index, cost in enumerate(report.attacks):
        mine = [event for event in events if event.index == index]
        assert [event.left for event in mine] == sorted((event.left for event in mine), reverse=True)
        assert (mine[-1].left, mine[0].total, mine[0].attack) == (0, cost.points, cost.name)


def test_running_out_of_memory_halves_every_batch_and_changes_nothing() -> None:
    inner, x, y = conv_case(count=70)
    sizes: list[int] = []

    def tight(z: Tensor, x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 32:
            raise torch.OutOfMemoryError("no room")
        return z

    report = attack(Wrapped(inner, tight), x, y, batch_size=64, fold=False)
    assert report.same_verdicts(attack(inner, x, y, batch_size=64, fold=False))
    assert torch.equal(report.margin, attack(inner, x, y, fold=False).margin)
    assert sizes[:4] == [64, 32, 32, 16]
    with pytest.raises(torch.OutOfMemoryError):
        attack(Wrapped(inner, lambda z, x: tight(z, torch.cat([x, x, x]))), x, y, fold=False)


def test_forwards_that_verify_claims_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = conv_case(count=40)
    claims, plain = 0, Verifier.broken

    def refuse_some(verifier: Verifier, x_adv: Tensor, *rest: Any) -> Tensor:
        nonlocal claims
        claims += len(x_adv)
        return plain(verifier, x_adv, *rest) & (torch.rand(len(x_adv)) < 0.8)

    monkeypatch.setattr(Verifier, "broken", refuse_some)
    report = attack(model, x, y)
    assert claims > int((report.clean & ~report.robust).sum())
    assert sum(cost.checks for cost in report.attacks) == claims
    assert [entry["checks"] for entry in report.to_dict()["attacks"]] == [c.checks for c in report.attacks]


def test_versions() -> None:
    names = {
        version: [type(entry).__name__ for entry in AutoAttack(THREAT, version=version).attacks]
        for version in ("standard", "plus", "rand")
    }
    assert names == {
        "standard": ["APGD", "APGDT", "FABT", "Square"],
        "plus": ["APGD", "APGD", "FAB", "Square", "APGDT", "FABT"],
        "rand": ["APGD", "APGD"],
    }
    ce, targeted, fab, square = AutoAttack(ThreatModel("L1", 4.0)).attacks
    assert isinstance(ce, APGD)
    assert isinstance(targeted, APGDT)
    assert isinstance(fab, FABT)
    assert isinstance(square, Square)
    assert (ce.restarts, targeted.targets, fab.targets, square.steps) == (5, 5, 9, 5000)
    assert ce.lengths == targeted.lengths == [30, 30, 40]
    assert [entry.eot for entry in AutoAttack(THREAT, version="rand").attacks] == [20, 20]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"version": "strong"}, "standard"),
        ({"version": "custom"}, "list"),
        ({"attacks": ["fab"]}, "custom"),
        ({"version": "custom", "attacks": ["pgd"]}, "apgd-ce"),
        ({"version": "custom", "attacks": ["fab", "fab"]}, "twice"),
        ({"batch_size": 0}, "auto"),
        ({"seed": -1}, "seed"),
        ({"resume": True}, "folder"),
    ],
)
def test_unusable_arguments(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        AutoAttack(THREAT, **options)


@pytest.mark.parametrize(
    ("own", "word"),
    [
        (ThreatModel("L2", 0.02), "L2 with eps 0.02"),
        (ThreatModel("Linf", 0.5), "eps 0.5"),
        (ThreatModel("Linf", 0.02, (0.0, 0.5)), "0.5"),
        (ThreatModel("Linf", torch.full((4,), 0.02)), "4 radii"),
    ],
)
def test_an_attack_for_another_threat_model_is_refused(own: ThreatModel, word: str) -> None:
    with pytest.raises(InputError, match=rf"apgd-ce was made for .*{word}.*Linf with eps 0.02"):
        AutoAttack(THREAT, version="custom", attacks=["square", APGD(own)])
    radii = torch.full((4,), 0.02)
    AutoAttack(
        ThreatModel("Linf", radii), version="custom", attacks=[APGD(ThreatModel("Linf", radii.clone()))]
    )


def test_no_attack_is_no_evaluation() -> None:
    model, x, y = conv_case(count=4)
    flat = nn.Sequential(nn.Unflatten(1, x.shape[1:]), model)
    with pytest.raises(InputError, match="Square needs"):
        AutoAttack(THREAT, version="custom", attacks=["square"])(flat, x.flatten(1), y)


def test_unusable_images() -> None:
    model, x, y = conv_case(count=4)
    for images, labels, ids, word in (
        (x * 255, y, None, "255"),
        (x[:0], y[:0], None, "no images"),
        (x, y + 100, None, "classes"),
        (x, y, torch.zeros(4, dtype=torch.long), "number of its own"),
    ):
        with pytest.raises(InputError, match=word):
            AutoAttack(THREAT)(model, images, labels, ids=ids)
