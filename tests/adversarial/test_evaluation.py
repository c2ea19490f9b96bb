"""Accuracy under restarts, and of models whose logits are not numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import PGD, ThreatModel
from robustsabn.cli import main
from robustsabn.data import load_test
from robustsabn.errors import CheckpointError, ConfigError, RouteError
from robustsabn.routing import route
from robustsabn.trainers import evaluate, evaluate_run, load_run_model, train
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.evaluation.evaluation import parse_attack
from robustsabn.trainers.adversarial.step.adversarial_step import build_attack
from robustsabn.trainers.loop.draws import generator
from tests.helpers.runs import TINY

CONFIG: dict[str, Any] = {
    **TINY,
    "steps": 24,
    "images": 192,
    "batch_size": 32,
    "attack": {"eps": 0.25, "steps": 2, "step_size": 0.03},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train({**CONFIG, "out": str(out)})
    return out


def attack(steps: int) -> PGD:
    return PGD(ThreatModel("Linf", 0.25), steps=steps, step_size=0.03, keep="last")


def robust(run: Path, name: str, n: int, **options: Any) -> dict[str, dict[str, float]]:
    return evaluate_run(run, attack=name, n=n, **options).robust


@pytest.mark.parametrize(
    ("text", "expected"), [("pgd-20", (20, 1)), ("pgd-50-10", (50, 10)), ("pgd-1-1", (1, 1))]
)
def test_attacks_are_named_by_steps_and_restarts(text: str, expected: tuple[int, int]) -> None:
    assert parse_attack(text) == expected


@pytest.mark.parametrize(
    "text", ["pgd", "pgd-0", "pgd-20-0", "pgd-20-", "PGD-20", "pgd-20-5-1", "pgd--5", "cw"]
)
def test_other_names_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write pgd-STEPS or pgd-STEPS-RESTARTS, .* pgd-50-10"):
        parse_attack(text)


def test_an_entry_counts_what_is_right_in_every_restart(run: Path) -> None:
    n, names = 48, ("clean", "adv")
    model, images, pgd = load_run_model(run), load_test("digits", n), attack(1)
    x, y = images.batch(torch.arange(n))
    right = {a: {b: [True] * n for b in names} for a in names}
    for i in range(n):
        for restart in range(4):
            key = (int(images.ids[i]), restart) if restart else (int(images.ids[i]),)
            delta0 = pgd.threat.noise(x[:1], "uniform", generator("cpu", 0, "evaluate", *key))
            for attacked in names:
                with route(model, attacked):
                    x_adv = pgd(model, x[i : i + 1], y[i : i + 1], delta0=delta0)
                for scored in names:
                    with torch.no_grad(), route(model, scored):
                        right[attacked][scored][i] &= bool(model(x_adv).argmax() == y[i])
    found = robust(run, "pgd-1-4", n)
    assert found == {a: {b: sum(right[a][b]) / n for b in names} for a in names}
    assert found["adv"]["adv"] < robust(run, "pgd-1", n)["adv"]["adv"]


def test_restarts_do_not_depend_on_the_batch_and_one_is_the_plain_attack(run: Path) -> None:
    assert robust(run, "pgd-2-3", 30, batch_size=30) == robust(run, "pgd-2-3", 30, batch_size=7)
    assert evaluate_run(run, attack="pgd-2-1", n=30) == evaluate_run(run, attack="pgd-2", n=30)
    many = evaluate_run(run, attack="pgd-2-3", n=30)
    assert many.attack == "pgd-2-3"
    assert many.clean == evaluate_run(run, attack="pgd-2", n=30).clean


def test_what_is_wrong_through_every_route_is_not_attacked_again() -> None:
    seen: list[int] = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(64))

        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            score = (x.flatten(1) * self.weight).sum(1, keepdim=True)
            return torch.cat([score - 1e9, score, *[score - 1e9] * 8], 1)  # always class 1

    images = load_test("digits", 40)
    ones = int((images.labels == 1).sum())
    found = evaluate(Counting(), images, attack(1), restarts=3)
    assert found.clean_accuracy == found.robust_accuracy == ones / 40
    asked_twice = [40, 40]  # whether the model is random
    assert seen == [*asked_twice, 40, 40, 40, ones, ones, ones, ones]
    seen.clear()
    evaluate(Counting(), images, attack(1))
    assert seen == [40, 40, 40]


def test_the_step_size_is_the_runs_unless_given_and_is_told(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_run(run, attack="pgd-2", n=10).step_size == 0.03
    with pytest.raises(ConfigError, match="step_size must be positive"):
        evaluate_run(run, attack="pgd-2", n=10, step_size=-1)
    options = ["--n", "10", "--attack", "pgd-2-2", "--step-size", "8/255"]
    assert main(["evaluate", str(run), *options]) == 0
    assert "step size 8/255" in " ".join(capsys.readouterr().out.split())
    written = json.loads((run / "report" / "evaluation.json").read_text())
    assert written["step_size"] == 8 / 255
    assert written["attack"] == "pgd-2-2"
    assert written["robust"] == robust(run, "pgd-2-2", 10, step_size=8 / 255)


def test_restarts_of_one_start_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train({**CONFIG, "out": str(out), "attack": {"start": "none", "steps": 1}, "steps": 1})
    with pytest.raises(ConfigError, match=r"attack.start: none.*use pgd-5$"):
        evaluate_run(out, attack="pgd-5-2")


class Broken(nn.Module):
    """Class 0 for every image, by logits that are no numbers for those brighter than the mean."""

    def __init__(self, bad: float) -> None:
        super().__init__()
        self.bad = bad

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1)[:, :10] * 0
        z[:, 0] += 1
        return torch.where(x.flatten(1).mean(1, keepdim=True) > 0.3, z + self.bad, z)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_count_as_wrong_and_are_counted(bad: float) -> None:
    images = load_test("digits", 60)
    x, y = images.batch(torch.arange(60))
    dark = x.flatten(1).mean(1) <= 0.3
    found = evaluate(Broken(bad), images, PGD(ThreatModel("Linf", 1e-6), steps=1, keep="last", check=False))
    assert found.clean_accuracy == (dark & (y == 0)).sum().item() / 60
    assert found.robust_accuracy == found.clean_accuracy
    assert 0 < found.unusable == int((~dark).sum()) < 60
    assert found.warning is not None
    assert f"{found.unusable} of 60 images" in found.warning
    assert "\n" not in found.warning


def test_a_broken_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        z = super().forward(x.flatten(1))\n"
        "        return z if self.training else z * torch.nan\n"
        "def make(num_classes):\n    return Net(64, num_classes)\n"
    )
    result = train(
        {**CONFIG, "model": f"{file}:make", "norm": "none", "steps": 1, "out": str(tmp_path / "run")}
    )
    assert result.evaluation.clean_accuracy == 0
    said = capsys.readouterr().out
    assert "warning: NaN or infinite logits for 40 of 40 images" in said
    assert said.count("warning:") == 2
    assert main(["evaluate", str(tmp_path / "run"), "--n", "5", "--attack", "pgd-1"]) == 0
    assert "for 5 of 5 images" in capsys.readouterr().out


def test_evaluation_does_not_depend_on_the_batch_size(ended_once: Path) -> None:
    assert evaluate_run(ended_once, n=50, batch_size=50) == evaluate_run(ended_once, n=50, batch_size=7)


def test_evaluation_leaves_modes_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5).eval())
    found = evaluate(model, load_test("digits", 20), build_attack(Attack(eps=0.1), 2))
    assert found.routes == ("all",)
    assert model.training
    assert not model[2].training


def test_shards_of_an_evaluation_add_up(ended_once: Path) -> None:
    model, images = load_run_model(ended_once), load_test("digits", 31)
    attack = build_attack(Attack(eps=0.1), 3)
    shares: list[torch.Tensor] = []

    def added(share: torch.Tensor) -> torch.Tensor:
        shares.append(share)
        return torch.stack(shares).sum(0)

    sharded = [evaluate(model, images, attack, rank=rank, world=2, reduce=added) for rank in (0, 1)]
    assert sharded[1] == evaluate(model, images, attack)
    assert sharded[0] != sharded[1]


def test_wrong_evaluations(ended_once: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write pgd-STEPS"):
        evaluate_run(ended_once, attack="pgd")
    with pytest.raises(RouteError, match="clean, adv"):
        evaluate_run(ended_once, route="advv")
    with pytest.raises(CheckpointError, match="not a run folder"):
        evaluate_run(tmp_path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        evaluate_run(ended_once, checkpoint="swa")
    with pytest.raises(CheckpointError, match="start it without --resume"):
        train({**CONFIG, "out": str(tmp_path)}, resume=True)
