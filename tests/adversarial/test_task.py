"""A training run from configuration to closing table."""

from pathlib import Path
from typing import Any

import pytest
import torch

from robustsabn.config import load
from robustsabn.data import load_test
from robustsabn.errors import ConfigError, TrainingError
from robustsabn.routing import route, routes_of
from robustsabn.trainers import TrainConfig, evaluate_run, load_run_config, load_run_model, train
from robustsabn.trainers.checkpoints.files import read
from tests.helpers.runs import TINY, metrics


def tiny(out: Path, *overrides: str) -> Any:
    return train({**TINY, "out": str(out)}, overrides)


def test_a_run_leaves_what_it_promises(ended_once: Path) -> None:
    names = {p.name for p in ended_once.iterdir() if "tfevents" not in p.name}
    assert names == {"config.yaml", "metrics.jsonl", "provenance.json", "checkpoints"}
    assert {p.name for p in (ended_once / "checkpoints").iterdir()} == {"best", "last", "previous"}
    config = load_run_config(ended_once)
    assert config == load(TrainConfig, {**TINY, "out": str(ended_once)})
    best = read(ended_once / "checkpoints", "best").state["step"]
    kinds = [(entry["kind"], entry["step"]) for entry in metrics(ended_once)]
    assert kinds == [
        ("train", 3),
        ("train", 4),
        ("validation", 4),
        ("train", 6),
        ("train", 8),
        ("validation", 8),
        ("test", 8),
        *([("test_last", 8)] if best < 8 else []),
    ]
    first = metrics(ended_once)[0]
    assert {"loss", "clean_loss", "adv_loss", "clean_accuracy", "adv_accuracy", "lr"} <= first.keys()


def test_the_result_is_that_of_the_best_checkpoint(ended_once: Path) -> None:
    (test,) = (e for e in metrics(ended_once) if e["kind"] == "test")
    again = evaluate_run(ended_once, attack="pgd-1", n=40)
    assert again.to_dict() == {key: test[key] for key in again.to_dict()}
    entries = [e for e in metrics(ended_once) if e["kind"] == "validation"]
    best = max(entries, key=lambda e: (e["robust"]["adv"]["adv"], e["clean"]["clean"], -e["step"]))
    assert read(ended_once / "checkpoints", "best").state["step"] == best["step"]


def test_a_run_can_be_loaded_and_evaluated_by_route(ended_once: Path) -> None:
    model = load_run_model(ended_once, "last")
    assert routes_of(model) == ("clean", "adv")
    assert not model.training
    found = evaluate_run(ended_once, route="adv", n=30, attack="pgd-3", batch_size=7)
    assert found.routes == ("adv",)
    assert list(found.robust) == ["adv"]
    assert found.n == 30
    x, y = load_test("digits", 30).batch(torch.arange(30))
    best = load_run_model(ended_once)
    with torch.no_grad(), route(best, "adv"):
        assert found.clean["adv"] == (best(x).argmax(1) == y).sum().item() / 30


def test_the_closing_table_can_have_autoattack(tmp_path: Path) -> None:
    found = tiny(tmp_path / "run", "test.autoattack=3", "steps=2").evaluation
    assert found.autoattack_n == 3
    assert set(found.autoattack) == {"clean", "adv"}
    (closing,) = (e for e in metrics(tmp_path / "run") if e["kind"] == "test")
    assert closing["autoattack"] == found.autoattack
    # PGD stands beside it on the same three images
    few = evaluate_run(tmp_path / "run", n=3, attack="pgd-1")
    assert closing["same_images"] == found.same_images == few.robust["adv"]


def test_the_same_configuration_is_the_same_run(tmp_path: Path) -> None:
    torch.manual_seed(1)
    a = tiny(tmp_path / "a", "steps=3")
    torch.manual_seed(2)
    b = tiny(tmp_path / "b", "steps=3")
    c = tiny(tmp_path / "c", "steps=3", "seed=1")
    models = [load_run_model(r.folder, "last").state_dict() for r in (a, b, c)]
    torch.testing.assert_close(models[0], models[1], rtol=0, atol=0)
    assert not torch.equal(models[0]["4.weight"], models[2]["4.weight"])
    assert a.evaluation == b.evaluation


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    tiny(tmp_path, "steps=1")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("overrides", "routes"),
    [
        (("method=standard", "norm=none"), ["all"]),
        (("method=pgd", "norm=none", "attack.bn_mode=train"), ["all"]),
        (("method=paired", "method.forward=separate", "norm=bn"), ["clean", "adv"]),
        (("method=pgd", "norm=sabn", "optim=adamw", "schedule=one-cycle"), ["adv"]),
        (
            ("precision=bf16", "channels_last=true", "augment.flip=true", "schedule=multistep"),
            ["clean", "adv"],
        ),
        (("routes=a", "norm=auxbn", "attack.norm=L2", "attack.eps=1", "attack.bn_mode=frozen"), ["a"]),
        (("routes=a,b,c", "init=paper", "attack.norm=L1", "attack.eps=5"), ["a", "b", "c"]),
    ],
)
def test_settings_combine(tmp_path: Path, overrides: tuple[str, ...], routes: list[str]) -> None:
    result = tiny(tmp_path / "run", "model=resnet-digits", "steps=2", *overrides)
    assert result.steps == 2
    assert list(result.evaluation.clean) == list(result.evaluation.robust) == routes
    tensors = read(tmp_path / "run" / "checkpoints", "last").tensors
    assert all(value.isfinite().all() for value in tensors["model"].values())
    assert all(value.any() for name, value in tensors["optimizer"].items() if name.startswith("0."))


def test_the_model_stays_float32_under_mixed_precision(tmp_path: Path) -> None:
    result = tiny(tmp_path / "run", "steps=2", "precision=bf16")
    model = load_run_model(result.folder, "last")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    again = evaluate_run(result.folder, attack="pgd-1", n=40)
    assert again == result.evaluation


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


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=gradalign", "attack.eps=0.15"], "method.lam is not set"),
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
