"""AutoAttack interrupted and resumed: nothing is lost, and nothing foreign is taken for its own."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import (
    APGD,
    FABT,
    AutoAttack,
    ProgressEvent,
    Square,
    ThreatModel,
)
from robustsabn.attacks.autoattack.versions import described
from robustsabn.attacks.journal.same_model import Answers
from robustsabn.errors import InputError
from tests.helpers.attacks.autoattack_case import THREAT, Wrapped, attack, broken_for_some, noisy
from tests.helpers.attacks.networks import conv_case


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
    refused("started with eps 0.02, but now eps is 0.03", threat=ThreatModel("Linf", 0.03))
    refused("norm Linf, but now norm is L2", threat=ThreatModel("L2", 0.02))
    refused("version custom, but now version is fast", version="fast", attacks=None)
    refused("seed 0, but now seed is 1", seed=1)
    refused("started with 6 images .*, but now there are 4", x[:4], y[:4])
    refused("other images", x * 0.5)
    refused("other labels", y=(y + 1) % 10)
    refused(
        "the attacks apgd-ce, but now they are fab-t, square", attacks=[FABT(THREAT, steps=2), Square(THREAT)]
    )
    refused("steps 2 of apgd-ce, but now steps is 3", attacks=[APGD(THREAT, steps=3)])
    refused("without autocast, but now it is on", autocast=True)
    refused("with fold, but now it is off", fold=False)
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
    for other in (_pooled, lambda z, _: z * 1.01, lambda z, _: z[:, :9], noisy, broken_for_some):
        with pytest.raises(InputError, match="of 40 clean images get other logits"):
            attack(wrapped(other), x, y, folder=tmp_path / "a", resume=True)
    with pytest.raises(InputError, match="40 clean images get other logits"):
        attack(lambda images: _pooled(inner(images), images), x, y, folder=tmp_path / "b", resume=True)
    (tmp_path / "a" / "journal" / "clean.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        attack(wrapped(lambda z, _: z), x, y, folder=tmp_path / "a", resume=True)


class Snapped(nn.Module):
    """Equal on images with 8 levels; with `snap` other images are rounded to these, without perturbation."""

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
    assert (first.broken_by >= 0).any()
    assert again.same_verdicts(first)  # no vote is held twice
    assert torch.equal(again.margin, first.margin)
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
    assert named(own_loss).endswith("test_journal.own_loss")
    again: dict[str, Any] = {}
    source = "def own(logits, y): return logits"
    for scope in (again, {}):
        exec(source, {"__name__": "elsewhere"}, scope)  # noqa: S102
        again.setdefault("names", set()).add(named(scope["own"]))
        again["names"].add(named(partial(scope["own"], y=0)))
    assert again["names"] == {"elsewhere.own", "functools.partial(<function own>, y=0)"}
