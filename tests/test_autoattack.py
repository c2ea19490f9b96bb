"""AutoAttack: the same verdicts however the work is cut, verified, and with flags."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from attack_helpers import conv_case
from torch import Tensor, nn

from robustsabn.attacks import (
    APGD,
    APGDT,
    FAB,
    FABT,
    AutoAttack,
    ProgressEvent,
    Report,
    Square,
    ThreatModel,
    verify,
)
from robustsabn.attacks.answers import Answers
from robustsabn.attacks.judge import Judge
from robustsabn.attacks.logits import Model
from robustsabn.attacks.search import Search
from robustsabn.attacks.versions import described
from robustsabn.errors import InputError

THREAT = ThreatModel("Linf", 0.02)


def quick(threat: ThreatModel = THREAT) -> list[Search[Any]]:
    return [
        APGD(threat, steps=4),
        APGDT(threat, steps=4, targets=2),
        FABT(threat, steps=3, targets=2),
        Square(threat, steps=12),
    ]


def attack(model: Model, x: Tensor, y: Tensor, threat: ThreatModel = THREAT, **options: Any) -> Report:
    own: dict[str, Any] = {"version": "custom", "attacks": quick(threat)} if "version" not in options else {}
    ids = options.pop("ids", None)
    return AutoAttack(threat, **own, **options)(model, x, y, ids=ids)


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


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 4])
def test_an_interrupted_evaluation_goes_on_where_it_was(tmp_path: Path, after: int) -> None:
    model, x, y = conv_case(count=60)
    whole = attack(model, x, y)
    calls: list[ProgressEvent] = []

    def stop(event: ProgressEvent) -> None:
        calls.append(event)
        if len(calls) == after:
            raise Stop

    with pytest.raises(Stop):
        attack(model, x, y, batch_size=16, folder=tmp_path, progress=stop)
    spent = calls[-1].seconds
    asked = 0

    def count(module: nn.Module, args: object) -> None:
        nonlocal asked
        asked += 1

    with pytest.raises(InputError, match="resume"):
        attack(model, x, y, folder=tmp_path)
    report = attack(model, x, y, batch_size=16, folder=tmp_path, resume=True)
    assert report.same_verdicts(whole)
    assert report.forwards == whole.forwards
    assert [cost.checks for cost in report.attacks] == [cost.checks for cost in whole.attacks]
    handle = model.register_forward_pre_hook(count)
    again = attack(model, x, y, folder=tmp_path, resume=True)
    handle.remove()
    assert again.same_verdicts(whole)
    assert again.seconds > sum(cost.seconds for cost in again.attacks) >= spent > 0
    assert asked <= 5 + 2 * 4  # flags, clean and final forwards only


def test_a_torn_record_is_ignored(tmp_path: Path) -> None:
    model, x, y = conv_case(count=40)
    whole = attack(model, x, y, batch_size=16, folder=tmp_path)
    (part,) = (tmp_path / "journal").glob("part-*.bin")
    content = part.read_bytes()
    for cut in (len(content) - 1, len(content) // 2, 3, 0):
        part.write_bytes(content[:cut])
        assert attack(model, x, y, folder=tmp_path, resume=True).same_verdicts(whole)
        for newer in (tmp_path / "journal").glob("part-*.bin"):
            if newer != part:
                newer.unlink()


def test_a_foreign_journal_is_refused_in_words(tmp_path: Path) -> None:
    model, x, y = conv_case(count=6)

    def refused(said: str, x: Tensor = x, y: Tensor = y, **options: Any) -> None:
        given = {"version": "custom", "attacks": [APGD(options.get("threat", THREAT), steps=2)], **options}
        with pytest.raises(InputError, match=said) as caught:
            AutoAttack(given.pop("threat", THREAT), folder=tmp_path, resume=True, **given)(model, x, y)
        assert not re.search("[0-9a-f]{32}", str(caught.value))

    AutoAttack(THREAT, version="custom", attacks=[APGD(THREAT, steps=2)], folder=tmp_path)(model, x, y)
    refused("begun with eps 0.02, here eps is 0.03", threat=ThreatModel("Linf", 0.03))
    refused("norm Linf, here norm is L2", threat=ThreatModel("L2", 0.02))
    refused("version custom, here version is fast", version="fast", attacks=None)
    refused("seed 0, here seed is 1", seed=1)
    refused("6 of them, here are 4", x[:4], y[:4])
    refused("other images", x * 0.5)
    refused("other labels", y=(y + 1) % 10)
    refused(
        "the attacks apgd-ce, here they are fab-t, square", attacks=[FABT(THREAT, steps=2), Square(THREAT)]
    )
    refused("steps 2 of apgd-ce, here steps is 3", attacks=[APGD(THREAT, steps=3)])
    refused("without autocast, here it is on", autocast=True)
    refused("with fold, here it is off", fold=False)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    refused("other weights")
    known = tmp_path / "journal" / "identity.json"
    content = json.loads(known.read_text())
    older = {**content, "format": content["format"][:-1]}  # records with a column less
    del content["format"]
    another = "another version"
    for text, said in (
        (json.dumps(content), another),
        (json.dumps(older), another),
        ("[", "cannot be read"),
    ):
        known.write_text(text)
        refused(said)


def _pooled(z: Tensor, x: Tensor) -> Tensor:
    return nn.functional.avg_pool1d(z[:, None], 3, 1, 1)[:, 0]


def test_a_model_that_answers_otherwise_is_refused_though_its_weights_are_equal(tmp_path: Path) -> None:
    inner, x, y = conv_case(count=40)

    def wrapped(how: Callable[[Tensor, Tensor], Any]) -> nn.Module:
        return Wrapped(inner, how).eval()

    whole = attack(wrapped(lambda z, _: z), x, y, folder=tmp_path / "a")
    attack(lambda images: inner(images), x, y, folder=tmp_path / "b")
    rounded = wrapped(lambda z, _: z * (1 + 1e-5))  # as on another device
    assert attack(rounded, x, y, folder=tmp_path / "a", resume=True).same_verdicts(whole)
    for other in (_pooled, lambda z, _: z * 1.01, lambda z, _: z[:, :9], _noisy, _broken_for_some):
        with pytest.raises(InputError, match="of 40 clean images get other logits"):
            attack(wrapped(other), x, y, folder=tmp_path / "a", resume=True)
    with pytest.raises(InputError, match="40 clean images get other logits"):
        attack(lambda images: _pooled(inner(images), images), x, y, folder=tmp_path / "b", resume=True)
    (tmp_path / "a" / "journal" / "clean.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        attack(wrapped(lambda z, _: z), x, y, folder=tmp_path / "a", resume=True)


class Snapped(nn.Module):
    """Equal on images with 8 levels; with `snap`, others are rounded to those, which undoes small perturbations."""

    def __init__(self, inner: nn.Module, snap: bool) -> None:
        super().__init__()
        self.inner, self.snap = inner, snap

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner((x * 8).round() / 8 if self.snap else x)
        return logits


def test_adversarial_images_of_a_journal_are_asked_again(tmp_path: Path) -> None:
    inner, x, _ = conv_case(count=40)
    x = (x * 8).round() / 8
    y = inner(x).argmax(1)
    report = attack(Snapped(inner, False).eval(), x, y, folder=tmp_path)
    count = int((~report.robust).sum())
    assert count > 5
    with pytest.raises(
        InputError, match=f"{count} of its {count} adversarial images are classified correctly"
    ):
        attack(Snapped(inner, True).eval(), x, y, folder=tmp_path, resume=True)


def test_a_randomised_model_is_resumed(tmp_path: Path) -> None:
    inner, x, y = conv_case(count=24)
    model = Wrapped(inner, lambda z, _: nn.functional.dropout(z, 0.2)).eval()
    first = attack(model, x, y, folder=tmp_path)
    again = attack(model, x, y, folder=tmp_path, resume=True)
    broken = first.broken_by >= 0
    assert broken.any()
    assert torch.equal(again.broken_by[broken], first.broken_by[broken])
    assert "randomised" in [flag.name for flag in again.flags]


def test_the_logits_of_half_precision_may_round_more(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 4, generator=generator) * 3
    logits[0, 0], logits[1, 1], logits[2] = torch.nan, -torch.inf, 1e-9
    path = tmp_path / "clean.safetensors"
    Answers(logits).write(path)
    close = logits * 1.005 + 1e-4
    Answers(logits * (1 - 1e-4) + 1e-4).check(path)
    Answers(close, half=True).check(path)
    with pytest.raises(InputError, match="clean images"):
        Answers(close).check(path)
    y = logits.nan_to_num(0.0, neginf=-1.0).argmax(1)
    assert Answers(logits).contradict(logits, y).sum() == 19  # within rounding in row 2 alone


def own_loss(logits: Tensor, y: Tensor) -> Tensor:
    return -logits.gather(1, y[:, None])[:, 0]


def test_the_settings_of_an_attack_are_the_same_in_every_process() -> None:
    def named(loss: Any) -> Any:
        return described(APGD(THREAT, loss=loss))["loss"]

    assert named("dlr") == "dlr"
    assert named(own_loss).endswith("test_autoattack.own_loss")
    again: dict[str, Any] = {}
    source = "def own(logits, y): return logits"
    for scope in (again, {}):
        exec(source, {"__name__": "elsewhere"}, scope)  # noqa: S102
        again.setdefault("names", set()).add(named(scope["own"]))
        again["names"].add(named(partial(scope["own"], y=0)))
    assert again["names"] == {"elsewhere.own", "functools.partial(<function own>, y=0)"}


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


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module, how: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: Tensor) -> Any:
        return self.how(self.inner(x), x)


def _noisy(z: Tensor, x: Tensor) -> Tensor:
    return z + 0.1 * torch.randn_like(z)


def _broken_for_some(z: Tensor, x: Tensor) -> Tensor:
    dark = x.flatten(1).mean(1, keepdim=True) < 0.5
    return torch.where(dark, z * torch.nan, z)


def _purified(z: Tensor, x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(leaf.square().sum(), leaf)
    return z + 0 * grad.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("how", "flag"),
    [
        (lambda z, x: (z * 1e4).softmax(1), "softmax"),
        (lambda z, x: z.sign() * 100 + 0 * z, "zero-gradients"),
        (_noisy, "randomised"),
        (_broken_for_some, "nan-logits"),
        (_purified, "gradient-in-forward"),
    ],
)
def test_suspicious_models_are_flagged(how: Callable[[Tensor, Tensor], Tensor], flag: str) -> None:
    inner, x, y = conv_case(count=24)
    model = Wrapped(inner, how).eval()
    with torch.no_grad():
        y = model(x).nan_to_num().argmax(1)
    found = {entry.name: entry for entry in attack(model, x, y).flags}
    assert found[flag].severity == "warning"
    assert found[flag].count > 0
    assert len(found[flag].message) > 60
    plain = {entry.name for entry in attack(inner, x, inner(x).argmax(1)).flags}
    assert plain <= {"non-standard", "fragile", "square-only", "fab-only"}


def _root(z: Tensor, x: Tensor) -> Tensor:
    return z + 0 * ((x - 0.1) * (x > 0.1)).sqrt().flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("how", [_root, lambda z, x: z + 0 * (x * 0).sqrt().flatten(1).sum(1, keepdim=True)])
@pytest.mark.parametrize("name", ["apgd-ce", "fab", "fab-t"])
def test_gradients_that_are_not_finite_are_flagged_as_such(how: Callable[..., Tensor], name: str) -> None:
    inner, x, _ = conv_case(count=20)
    x[::2] = x[::2].clamp_min(0.2)
    y = inner(x).argmax(1)
    one: list[Search[Any]] = [APGD(THREAT, steps=2), FAB(THREAT, steps=1), FABT(THREAT, steps=1)]
    chosen = [entry for entry in one if entry.name == name]
    report = AutoAttack(THREAT, version="custom", attacks=chosen)(Wrapped(inner, how).eval(), x, y)
    found = {flag.name: flag for flag in report.flags}
    expected = tuple(range(1, 20, 2)) if how is _root else tuple(range(20))
    assert found["nan-gradients"].ids == expected
    assert found["nan-gradients"].severity == "warning"
    assert "zero-gradients" not in found
    assert "nan-logits" not in found


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


@pytest.mark.parametrize("version", ["custom", "rand"])
def test_forwards_that_verify_claims_are_counted(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    model, x, y = conv_case(count=40)
    claims, plain = 0, Judge.broken

    def refuse_some(judge: Judge, x_adv: Tensor, *rest: Any) -> Tensor:
        nonlocal claims
        claims += len(x_adv)
        return plain(judge, x_adv, *rest) & (torch.rand(len(x_adv)) < 0.8)

    monkeypatch.setattr(Judge, "broken", refuse_some)
    averaged: list[Search[Any]] = [APGD(THREAT, steps=4, eot=2)]
    chosen = AutoAttack(THREAT, version=version, attacks=quick() if version == "custom" else None)
    if version == "rand":
        chosen.attacks = averaged
    report = chosen(model, x, y)
    assert claims > int((report.clean & ~report.robust).sum())
    assert sum(cost.checks for cost in report.attacks) == claims * (10 if version == "rand" else 1)
    assert [entry["checks"] for entry in report.to_dict()["attacks"]] == [c.checks for c in report.attacks]


def test_unusual_models_and_inputs() -> None:
    inner, x, y = conv_case(count=12)
    plain = attack(inner, x, y)
    assert attack(Wrapped(inner, lambda z, _: (z, None)), x, y).same_verdicts(plain)
    assert attack(inner, x.to(memory_format=torch.channels_last), y).same_verdicts(plain)
    few = Wrapped(inner, lambda z, _: z[:, :2])
    labels = few(x).argmax(1)
    report = attack(few, x, labels)
    assert report.classes == 2
    assert report.clean.all()
    single = Wrapped(inner, lambda z, _: z[:, 1] - z[:, 0])
    assert torch.equal(attack(single, x, labels).robust, report.robust)
    flat = nn.Sequential(nn.Unflatten(1, x.shape[1:]), inner)
    table = attack(flat, x.flatten(1), y)
    assert "square" not in [cost.name for cost in table.attacks]
    assert "not-images" in [flag.name for flag in table.flags]
    half = conv_case(count=1)[0].bfloat16()
    assert "half-precision" in [flag.name for flag in attack(half, x, y).flags]


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
