"""A training run from configuration to closing table."""

import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import PartialState
from torch import nn

import robustsabn.config
from robustsabn.data import load_test
from robustsabn.errors import CheckpointError, ConfigError, RouteError, TrainingError
from robustsabn.routing import route, routes_of
from robustsabn.trainers import (
    Interrupted,
    TrainConfig,
    evaluate,
    evaluate_run,
    load_run_config,
    load_run_model,
    train,
)
from robustsabn.trainers.adversarial.config import Attack
from robustsabn.trainers.adversarial.evaluation.tables import image_grid
from robustsabn.trainers.adversarial.step.adversarial_step import build_attack
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.processes.distributed import start as start_processes
from robustsabn.trainers.runs.folder import RunFolder

TINY: dict[str, Any] = {
    "data": "digits",
    "images": 96,
    "batch_size": 32,
    "epochs": 2,
    "attack": {"eps": 0.1, "steps": 2},
    "validation": {"images": 40, "steps": 2},
    "test": {"images": 60, "steps": 2},
    "log_every": 2,
    "device": "cpu",
}


def tiny(out: Path, *overrides: str) -> Any:
    return train({**TINY, "out": str(out)}, overrides)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    tiny(folder)
    return folder


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    assert {p.name for p in finished.iterdir()} == {"config.yaml", "metrics.jsonl", "tb", "checkpoints"}
    assert {p.name for p in (finished / "checkpoints").iterdir()} == {"best", "last", "previous"}
    config = load_run_config(finished)
    assert config == robustsabn.config.load(TrainConfig, {**TINY, "out": str(finished)})
    kinds = [(entry["kind"], entry["step"]) for entry in records(finished)]
    assert kinds == [
        ("train", 2),
        ("train", 3),
        ("validation", 3),
        ("train", 4),
        ("train", 6),
        ("validation", 6),
        ("test", 6),
    ]
    first = records(finished)[0]
    assert {"loss", "clean_loss", "adv_loss", "clean_accuracy", "adv_accuracy", "lr"} <= first.keys()


def test_tensorboard_holds_scalars_of_each_route_and_pictures(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tb"))
    events.Reload()
    tags = events.Tags()
    assert {"train/clean_loss", "train/adv_loss", "train/lr", "train/images_per_second"} <= set(
        tags["scalars"]
    )
    assert {"validation/clean/clean", "validation/clean/adv", "validation/robust/adv/adv"} <= set(
        tags["scalars"]
    )
    assert tags["images"] == ["images/clean adversarial difference"]


def test_the_result_is_that_of_the_best_checkpoint(finished: Path) -> None:
    test = records(finished)[-1]
    again = evaluate_run(finished, attack="pgd-2", n=60)
    assert again.to_dict() == {key: test[key] for key in again.to_dict()}
    entries = [e for e in records(finished) if e["kind"] == "validation"]
    best = max(entries, key=lambda e: (e["robust"]["adv"]["adv"], e["clean"]["clean"], -e["step"]))
    state = json.loads((finished / "checkpoints" / "best" / "state.json").read_text())
    assert state["step"] == best["step"]


def test_a_run_can_be_loaded_and_evaluated_by_route(finished: Path) -> None:
    model = load_run_model(finished, "last")
    assert routes_of(model) == ("clean", "adv")
    assert not model.training
    found = evaluate_run(finished, route="adv", n=30, attack="pgd-3", batch_size=7)
    assert found.routes == ("adv",)
    assert list(found.robust) == ["adv"]
    assert found.n == 30
    x, y = load_test("digits", 30).batch(torch.arange(30))
    best = load_run_model(finished)
    with torch.no_grad(), route(best, "adv"):
        assert found.clean["adv"] == (best(x).argmax(1) == y).sum().item() / 30


def test_the_closing_table_can_have_autoattack(tmp_path: Path) -> None:
    tiny = {**TINY, "test": {"images": 60, "steps": 2, "autoattack": 3}, "out": str(tmp_path / "run")}
    found = train({**tiny, "images": 32, "epochs": 1}).evaluation
    assert found.autoattack_n == 3
    assert set(found.autoattack) == {"clean", "adv"}
    closing = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert closing["autoattack"] == found.autoattack
    # PGD stands beside it on the same three images
    few = evaluate_run(tmp_path / "run", n=3, attack="pgd-2")
    assert closing["same_images"] == found.same_images == few.robust["adv"]


def test_evaluation_does_not_depend_on_the_batch_size(finished: Path) -> None:
    assert evaluate_run(finished, n=50, batch_size=50) == evaluate_run(finished, n=50, batch_size=7)


def test_evaluation_leaves_modes_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5).eval())
    found = evaluate(model, load_test("digits", 20), build_attack(Attack(eps=0.1), 2))
    assert found.routes == ("all",)
    assert model.training
    assert not model[2].training


def test_shards_of_an_evaluation_add_up(finished: Path) -> None:
    model, images = load_run_model(finished), load_test("digits", 31)
    attack = build_attack(Attack(eps=0.1), 3)
    shares: list[torch.Tensor] = []

    def added(share: torch.Tensor) -> torch.Tensor:
        shares.append(share)
        return torch.stack(shares).sum(0)

    sharded = [evaluate(model, images, attack, rank=rank, world=2, reduce=added) for rank in (0, 1)]
    assert sharded[1] == evaluate(model, images, attack)
    assert sharded[0] != sharded[1]


def test_the_same_configuration_is_the_same_run(tmp_path: Path) -> None:
    torch.manual_seed(1)
    a = tiny(tmp_path / "a", "steps=3")
    torch.manual_seed(2)
    b = tiny(tmp_path / "b", "steps=3")
    c = tiny(tmp_path / "c", "steps=3", "seed=1")
    models = [load_run_model(r.folder, "last").state_dict() for r in (a, b, c)]
    torch.testing.assert_close(models[0], models[1], rtol=0, atol=0)
    assert not torch.equal(models[0]["linear.weight"], models[2]["linear.weight"])
    assert a.evaluation == b.evaluation


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    tiny(tmp_path, "steps=1")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "overrides",
    [
        ("method=standard", "norm=none"),
        ("method=pgd", "norm=none", "attack.bn_mode=train"),
        ("method=paired", "method.forward=separate", "norm=bn"),
        ("method=pgd", "norm=sabn", "optim=adamw", "schedule=one-cycle"),
        ("precision=bf16", "channels_last=true", "augment.crop=1", "augment.flip=true", "schedule=multistep"),
        ("routes=a", "norm=auxbn", "attack.norm=L2", "attack.eps=1", "attack.bn_mode=frozen"),
        ("routes=a,b,c", "init=paper", "attack.norm=L1", "attack.eps=5"),
    ],
)
def test_settings_combine(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    result = tiny(tmp_path / "run", "steps=2", *overrides)
    assert result.steps == 2
    assert min(result.evaluation.clean.values()) >= 0


def test_the_model_stays_float32_under_mixed_precision(tmp_path: Path) -> None:
    result = tiny(tmp_path / "run", "steps=2", "precision=bf16")
    model = load_run_model(result.folder, "last")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    again = evaluate_run(result.folder, attack="pgd-2", n=60)
    assert again == result.evaluation


def test_an_own_model_trains(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "from torch import nn\n"
        "def make(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),\n"
        "        nn.Linear(144, num_classes))\n"
    )
    result = tiny(tmp_path / "run", "steps=2", f"model={file}:make")
    assert routes_of(load_run_model(result.folder)) == ("clean", "adv")


@pytest.mark.parametrize("norm", ["none", "saauxbn"])
@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_layers_that_the_network_comes_with_in_eval_mode_stay_frozen(
    tmp_path: Path, norm: str, bn_mode: str
) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "from torch import nn\n"
        "def make(num_classes):\n"
        "    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3),\n"
        "        nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, num_classes))\n"
        "    net[1].eval().num_batches_tracked.fill_(7)\n"
        "    return net\n"
        "def whole(num_classes):\n"
        "    return make(num_classes).eval()\n"
    )
    moved = {}
    for name in ("make", "whole"):
        options = ["steps=3", f"model={file}:{name}", f"norm={norm}", f"attack.bn_mode={bn_mode}"]
        folder = tiny(tmp_path / name, *options, "swa.start=0").folder
        for kept in ("last", "swa"):
            state = load_run_model(folder, kept).state_dict()
            moved[name] = [bool(state[f"{place}.running_mean"].any()) for place in (1, 4)]
            assert bool((state["1.num_batches_tracked"] == 7).all()) != moved[name][0]
    assert moved == {"make": [False, True], "whole": [True, True]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_the_run_resumes_to_the_same_end(tmp_path: Path, number: signal.Signals) -> None:
    whole = tiny(tmp_path / "whole", "epochs=4")
    handler = signal.getsignal(number)

    def send() -> None:
        for _ in range(2000):
            if (tmp_path / "cut" / "metrics.jsonl").exists() and records(tmp_path / "cut"):
                break
            threading.Event().wait(0.005)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Interrupted):
        tiny(tmp_path / "cut", "epochs=4")
    sender.join()
    assert signal.getsignal(number) == handler
    assert 0 < json.loads((tmp_path / "cut/checkpoints/last/state.json").read_text())["step"] < 12
    train({**TINY, "epochs": 4, "out": str(tmp_path / "cut")}, resume=True)
    states = [load_run_model(tmp_path / name, "last").state_dict() for name in ("whole", "cut")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert whole.steps == 12


def test_a_used_folder_is_not_overwritten(finished: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run; continue it with --resume"):
        tiny(finished)


def test_a_folder_of_which_nothing_came_is_used_again(tmp_path: Path) -> None:
    class Failing(AdversarialTraining):
        def step(self, step: int) -> dict[str, torch.Tensor]:
            raise ConfigError("at the first step")

    config = robustsabn.config.load(TrainConfig, {**TINY, "steps": 1, "out": str(tmp_path / "run")})
    with pytest.raises(ConfigError, match="at the first step"):
        run(config, Failing)
    assert (tmp_path / "run" / "config.yaml").exists()
    assert tiny(tmp_path / "run", "steps=1", "norm=bn").steps == 1
    assert load_run_config(tmp_path / "run").norm == "bn"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=gradalign", "attack.eps=0.15"], "method.lam is left out"),
        (["method=advprop", "norm=none"], "method advprop needs a route"),
        (["method=fast-advprop", "norm=none"], "method fast-advprop needs a route"),
        (["method=fast-advprop", "batch_size=4"], "method.every is 5, for batches of 4 images"),
    ],
)
def test_what_a_method_needs_is_said_before_the_folder_is_made(
    tmp_path: Path, overrides: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny(tmp_path / "run", *overrides)
    assert not (tmp_path / "run").exists()


def test_another_network_cannot_go_on(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"norm is 'bn', the run in .* has 'saauxbn'; resume it with its own"
    ):
        train({**TINY, "norm": "bn", "out": str(tmp_path / "run")}, resume=True)


def test_a_run_is_longer_when_asked(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    result = train(tmp_path / "run" / "config.yaml", [f"out={tmp_path / 'run'}", "steps=8"], resume=True)
    assert result.steps == 8
    assert "resuming with other settings: steps None -> 8" in capsys.readouterr().out


def test_default_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = []
    for _ in range(3):
        places.append(RunFolder.choose(None, "digits", False).path)
        (places[-1] / "checkpoints").mkdir(parents=True)
    assert [str(p) for p in places] == ["runs/digits", "runs/digits-2", "runs/digits-3"]
    assert RunFolder.choose(None, "digits", True).path == places[-1]


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["batch_size=5000"], ConfigError, "batch_size 5000 is larger than the training set"),
        (["sync_bn=true", "norm=none"], ConfigError, "sync_bn needs routed normalisation"),
        (["attack.eps=8"], ConfigError, "attack.eps 8 is wider"),
        (["precision=fp16"], ConfigError, "fp16 needs a GPU"),
        (["method=tradess"], ConfigError, "method.name: 'tradess' is unknown"),
        (["routes=a,a"], ConfigError, "routes are distinct names"),
        (["model=torchvision:resnet18", "model_options={mean: [0.5]}"], ConfigError, "model_options are for"),
        (["optim.lr=1e30"], TrainingError, "the loss is"),
    ],
)
def test_wrong_usage(tmp_path: Path, overrides: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        tiny(tmp_path / "run", *overrides)
    assert "\n" not in str(caught.value)


def test_wrong_evaluations(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write pgd-STEPS"):
        evaluate_run(finished, attack="pgd")
    with pytest.raises(RouteError, match="clean, adv"):
        evaluate_run(finished, route="advv")
    with pytest.raises(CheckpointError, match="not a run folder"):
        evaluate_run(tmp_path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        evaluate_run(finished, checkpoint="swa")
    with pytest.raises(CheckpointError, match="start it without --resume"):
        train({**TINY, "out": str(tmp_path)}, resume=True)


def test_image_grid_shows_difference_in_grey() -> None:
    x = torch.rand(2, 1, 3, 3)
    grid = image_grid(x, x.clone(), 0.1)
    assert grid.shape == (1, 9, 6)
    assert (grid[:, 6:] == 0.5).all()


def test_the_device_of_a_run_is_not_that_of_the_run_before(monkeypatch: pytest.MonkeyPatch) -> None:
    PartialState()
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("meta"))
    assert start_processes(TrainConfig(device="cpu")).device == torch.device("cpu")
