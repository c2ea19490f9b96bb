"""Runs of style transfer: what they keep, how they resume, how they take further styles."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustsabn.errors import CheckpointError, ConfigError, DataError, ModelError
from robustsabn.layers import instance_moments
from robustsabn.trainers import compare, train
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.pages import write_run_page
from robustsabn.trainers.style import evaluation
from robustsabn.trainers.style.sampling import load_stylizer
from robustsabn.trainers.style.task import StyleTraining
from robustsabn.trainers.tasks import load_config
from tests.helpers.launch import launch
from tests.helpers.runs import metrics, same
from tests.helpers.style.case import tiny


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures to look at are as small as the crops."""
    monkeypatch.setattr(evaluation, "SIDE", 16)


def failing(at: int) -> type[StyleTraining]:
    class Failing(StyleTraining):
        def step(self, step: int) -> dict[str, Tensor]:
            if step == at:
                raise MemoryError
            return super().step(step)

    return Failing


def opened(out: Path, **changes: Any) -> StyleTraining:
    """The task of a run as its first step finds it."""
    found: list[StyleTraining] = []

    class Opened(StyleTraining):
        def step(self, step: int) -> dict[str, Tensor]:
            found.append(self)
            raise MemoryError

    config: Any = load_config(tiny(out, **changes))
    with pytest.raises(MemoryError):
        run(config, Opened)
    return found[0]


def painting(place: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place)
    return str(place)


def test_a_run_is_compared_and_stylises_without_data(tmp_path: Path) -> None:
    result = train(tiny(tmp_path / "run", ema=0.9))
    assert result.steps == 6
    stored = read(tmp_path / "run" / "checkpoints", "last")
    assert set(stored.tensors) == {"stylizer", "optimizer-stylizer", "ema"}
    assert not any(name.startswith("encoder.body") for name in stored.tensors["stylizer"])
    assert stored.state["encoder"]["sha256"]
    (group,) = compare([tmp_path / "run"]).groups
    numbers = group.runs[0].numbers
    assert numbers["style_loss"] == result.evaluation.style_loss
    assert result.evaluation.style_loss == pytest.approx(sum(result.evaluation.by_tap.values()), rel=1e-6)
    page = write_run_page(tmp_path / "run").read_text()
    for words in ("A row for each content picture", "content loss, AdaIN target", "reconstruction in dB"):
        assert words in page
    loaded = load_stylizer(tmp_path / "run")
    assert (loaded.checkpoint, loaded.styles, loaded.step) == ("ema", (), 6)
    x = torch.rand(1, 3, 20, 17)
    assert (
        loaded.stylizer.stylize(x, loaded.stylizer.style_statistics(torch.rand(1, 3, 16, 16))).shape
        == x.shape
    )
    own = load_stylizer(tmp_path / "run", "last").stylizer.state_dict()
    torch.testing.assert_close(own, stored.tensors["stylizer"], rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "routes"},
        {"norm": "ilm", "encoder": "random", "tap": None, "faithful": True, "styles": "embedded:1"},
        {"norm": "adain", "ema": 0.9, "reconstruct": 0.0, "style_taps": ["first", "third"]},
    ],
)
def test_a_run_that_fails_resumes_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(tiny(whole, **changes))
    config: Any = load_config(tiny(cut, **changes))
    with pytest.raises(MemoryError):
        run(config, failing(4))
    train(tiny(cut, **changes), resume=True)
    same(whole, cut)
    assert metrics(whole) == metrics(cut)


def test_a_style_is_added_by_its_route_alone(tmp_path: Path) -> None:
    train(tiny(tmp_path / "first", norm="routes"))
    before = load_stylizer(tmp_path / "first").stylizer
    new = painting(tmp_path / "new.png")
    added = {
        "norm": "routes",
        "start": str(tmp_path / "first"),
        "styles": new,
        "size": 32,
        "reconstruct": 0.9,
    }
    train(tiny(tmp_path / "whole", **added))
    config: Any = load_config(tiny(tmp_path / "cut", **added))
    with pytest.raises(MemoryError):
        run(config, failing(4))
    train(tiny(tmp_path / "cut", **added), resume=True)
    same(tmp_path / "whole", tmp_path / "cut")
    loaded = load_stylizer(tmp_path / "whole", "last")
    assert loaded.styles == (*before.styles, "new")
    state, old = loaded.stylizer.state_dict(), before.state_dict()
    x = torch.rand(1, 3, 16, 16)
    for name in old:
        kept = state[name][:3] if name.startswith("norm.route") else state[name]
        assert torch.equal(kept, old[name]), name
    for style in before.styles:
        assert torch.equal(loaded.stylizer.stylize(x, style), before.stylize(x, style))
    with Image.open(tmp_path / "new.png") as file:
        pixels = torch.from_numpy(np.array(file)).permute(2, 0, 1)[None] / 255
    mean, _ = before.style_statistics(pixels)
    row = state["norm.route_bias"][3]
    assert not torch.equal(row, mean[0])  # trained, from the first step on: nothing is reconstructed
    # from the statistics, by steps of at most (1 - 0.9) / sqrt(1 - 0.999) times the learning rate
    assert float((row - mean[0]).abs().max()) < 6 * 3.2e-3
    with pytest.raises(ConfigError, match="has a style new already"):
        train(tiny(tmp_path / "again", **{**added, "start": str(tmp_path / "whole")}))


def test_losses_are_those_of_the_formula(tmp_path: Path) -> None:
    task = opened(tmp_path / "run", optim={"lr": 1e-3}, style_weight=3.0)
    network = copy.deepcopy(task.stylizer).double()
    torch.manual_seed(0)
    for parameter in task.stylizer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network.load_state_dict(task.stylizer.state_dict())
    content, style = torch.rand(2, 2, 3, 16, 16)
    found = task.bench.backward(content, style, None, False)
    features, wanted = network.encode(content.double()), network.encoder(style.double())
    picture, target = network(features, network.style_statistics(style.double()))
    result = network.encoder(picture)
    by_tap = {}
    for tap in ("first", "second", "third"):
        total = 0.0
        for n in range(2):
            for c in range(result[tap].shape[1]):
                a, b = result[tap][n, c].flatten().tolist(), wanted[tap][n, c].flatten().tolist()
                means = [sum(v) / len(v) for v in (a, b)]
                deviations = [
                    (sum((x - m) ** 2 for x in v) / (len(v) - 1) + 1e-5) ** 0.5
                    for v, m in zip((a, b), means, strict=True)
                ]
                total += (means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2
        by_tap[tap] = total / (2 * result[tap].shape[1])
        assert found[f"style_loss_{tap}"].item() == pytest.approx(by_tap[tap], rel=1e-3)
    content_loss = float(((result["second"] - target) ** 2).mean().detach())
    mean, std = instance_moments(features)
    own = instance_moments(wanted["second"])
    plain = (features - mean) / std * own[1] + own[0]
    assert found["content_loss"].item() == pytest.approx(content_loss, rel=1e-3)
    expected = float(((result["second"] - plain) ** 2).mean().detach())
    assert found["content_loss_adain"].item() == pytest.approx(expected, rel=1e-3)
    assert found["loss"].item() == pytest.approx(content_loss + 3 * sum(by_tap.values()), rel=1e-3)


@pytest.mark.parametrize("faithful", [False, True])
def test_the_target_moves_only_in_a_faithful_run(tmp_path: Path, faithful: bool) -> None:
    """With the decoder's input cut off, the content loss reaches the norm through its target alone."""
    task = opened(tmp_path / "run", faithful=faithful, style_weight=0.0)
    decoder = task.stylizer.decoder
    hook = decoder.register_forward_pre_hook(lambda module, args: (args[0].detach(),))
    content, style = torch.rand(2, 2, 3, 16, 16)
    task.bench.backward(content, style, None, False)
    hook.remove()
    gradients = [p.grad for p in task.stylizer.norm.parameters()]
    assert len(gradients) == 2
    for gradient in gradients:
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == faithful


def test_reconstruction_leaves_the_norm_alone_and_trains_the_decoder(tmp_path: Path) -> None:
    task = opened(tmp_path / "run")
    content, style = torch.rand(2, 2, 3, 16, 16)
    found = task.bench.backward(content, style, None, True)
    assert all(not p.grad.any() for p in task.stylizer.norm.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in task.stylizer.parameters())
    picture = task.stylizer.decoder(task.stylizer.encode(content))
    pixels = ((picture - content) ** 2).mean()
    expected = (found["content_loss"] + 10 * pixels).item()
    assert found["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_another_encoder_other_pictures_and_wrong_settings_are_refused(
    tmp_path: Path,
) -> None:
    styles = tmp_path / "styles"
    styles.mkdir()
    for k in range(3):
        painting(styles / f"{k}.png")
    train(tiny(tmp_path / "run", styles=str(styles), steps=2, crop=16, largest=16))
    (styles / "0.png").unlink()
    with pytest.raises(DataError, match="has changed since the run"):
        train(tiny(tmp_path / "run", styles=str(styles), steps=4, crop=16, largest=16), resume=True)
    with pytest.raises(CheckpointError, match="give the same weight file"):
        load_stylizer(tmp_path / "run", encoder="random")
    with pytest.raises(ConfigError, match="crop=18; give a multiple of 4, at least 8"):
        train(tiny(tmp_path / "a", crop=18, largest=24, tap="third"))
    with pytest.raises(ModelError, match="did you mean second"):
        train(tiny(tmp_path / "b", tap="secnd"))
    with pytest.raises(ConfigError, match="only a network with norm=routes"):
        train(tiny(tmp_path / "c", start=str(tmp_path / "run")))
    with pytest.raises(CheckpointError, match="none"):
        load_stylizer(tmp_path / "none")


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    one, two = ({"config": tiny(tmp_path / name, norm="routes")} for name in ("one", "two"))
    for job, processes in ((one, 1), (two, 2)):
        code, output = launch([job], tmp_path, processes)
        assert code == 0, output
    first, second = (
        read(tmp_path / name / "checkpoints", "last").tensors["stylizer"] for name in ("one", "two")
    )
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
