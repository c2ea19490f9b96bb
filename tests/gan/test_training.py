"""Runs of a tiny GAN: what they keep, how they resume, what they leave alone."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustsabn.routing import route
from robustsabn.trainers import compare, train
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.gan.sampling import load_generator, sample
from robustsabn.trainers.gan.task import GanTraining
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.pages import write_run_page
from robustsabn.trainers.tasks import load_config
from tests.helpers.gan_case import MakeNpz, tiny
from tests.helpers.launch import launch
from tests.helpers.runs import metrics, same


def opened(out: Path, **changes: Any) -> GanTraining:
    """The task of a run as its first step finds it."""
    found: list[GanTraining] = []

    class Opened(GanTraining):
        def step(self, step: int) -> dict[str, Tensor]:
            found.append(self)
            raise MemoryError

    config: Any = load_config(tiny(out, **changes))
    with pytest.raises(MemoryError):
        run(config, Opened)
    return found[0]


def test_a_run_keeps_both_networks_is_compared_and_samples_without_its_data(tmp_path: Path) -> None:
    result = train(tiny(tmp_path / "run"))
    assert result.steps == 8
    stored = read(tmp_path / "run" / "checkpoints", "last")
    networks = {"generator", "discriminator"}
    assert set(stored.tensors) == networks | {f"optimizer-{name}" for name in networks} | {"ema"}
    assert {"best", "ema"} <= {place.name for place in (tmp_path / "run" / "checkpoints").iterdir()}
    assert result.averages["ema"].label == "fid[gan_case:coarse, n=40, ref=train]"
    (group,) = compare([tmp_path / "run"]).groups
    assert group.runs[0].averaged["ema"]["distance"] == result.averages["ema"].distance

    loaded = load_generator(tmp_path / "run")
    assert (loaded.checkpoint, loaded.shape, loaded.classes) == ("ema", (1, 8, 8), tuple("0123456789"))
    images = sample(loaded.generator, torch.tensor([3, 3, 7]), seed=5)
    assert images.shape == (3, 1, 8, 8)
    assert 0 <= images.min() < images.max() <= 1
    torch.testing.assert_close(
        images, sample(loaded.generator, torch.tensor([3, 3, 7]), seed=5, batch_size=1)
    )
    assert not torch.equal(images, sample(loaded.generator, torch.tensor([3, 3, 7]), seed=6))

    page = write_run_page(tmp_path / "run").read_text()
    for words in (
        "generated images",
        "averaged weights",
        "A row for each class",
        "From one class to the next",
    ):
        assert words in page


@pytest.mark.parametrize(
    "changes",
    [
        {
            "ema_statistics": "standing",
            "d_steps": 2,
            "epochs": 4,
            "augment": {"translation": 0.125, "colour": True},
        },
        {"ema_statistics": "averaged", "loss": "wasserstein-gp", "g_batch_size": 24, "norm": "ccbn"},
    ],
)
def test_a_run_that_fails_resumes_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(tiny(whole, **changes))
    config: Any = load_config(tiny(cut, **changes))

    class Failing(GanTraining):
        def step(self, step: int) -> dict[str, Tensor]:
            if step == 5:
                raise MemoryError
            return super().step(step)

    with pytest.raises(MemoryError):
        run(config, Failing)
    train(tiny(cut, **changes), resume=True)
    same(whole, cut)
    assert metrics(whole) == metrics(cut)


def test_the_generator_s_step_leaves_no_gradient_in_the_discriminator(tmp_path: Path) -> None:
    task = opened(tmp_path / "run")
    task.bench.generator_loss(0)
    generator, discriminator = (task.networks[name].raw for name in ("generator", "discriminator"))
    assert all(p.grad is not None for p in generator.parameters())
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())
    generator.zero_grad()
    x, y = task.batches.at(0)
    task.bench.discriminator_loss(0, 2 * x - 1, y)
    assert all(p.grad is None for p in generator.parameters())
    assert all(p.grad is not None for p in discriminator.parameters())


def test_real_and_generated_images_go_through_the_discriminator_together(tmp_path: Path) -> None:
    task = opened(tmp_path / "run")
    discriminator: Any = task.networks["discriminator"].raw
    before, seen = copy.deepcopy(discriminator), list[Tensor]()

    def see(module: Any, args: tuple[Tensor, ...]) -> None:
        seen.append(module.embedding.router.selection.clone())

    discriminator.register_forward_pre_hook(see)
    x, y = task.batches.at(0)
    found = task.bench.discriminator_loss(0, 2 * x - 1, y)
    with torch.no_grad():
        fake, classes = task.bench.generate(0, "D", 16)
        (labels,) = seen
        assert torch.equal(labels, torch.cat([y, classes]))
        with route(before, labels):
            scores = before(torch.cat([2 * x - 1, fake])).tolist()
    real, generated = scores[:16], scores[16:]
    hinge = sum(max(0, 1 - s) for s in real) / 16 + sum(max(0, 1 + s) for s in generated) / 16
    assert found["discriminator_loss"].item() == pytest.approx(hinge, rel=1e-5)
    assert found["real_score"].item() == pytest.approx(sum(real) / 16, rel=1e-5)


def test_a_class_without_images_is_said_and_not_generated(tmp_path: Path, npz: MakeNpz) -> None:
    spec = npz([0, 1, 3] * 20, classes=4)
    task = opened(tmp_path / "run", data=spec, images=None)
    assert any("1 of 4 classes have no training image: 2" in note for note in task.notes())
    assert "2 0" in task.notes()[0]
    assert set(task.bench.present.tolist()) == {0, 1, 3}
    assert 2 not in task.bench.generate(0, "D", 512)[1]


def test_standing_statistics_are_those_of_images_of_the_averaged_weights(tmp_path: Path) -> None:
    config: Any = load_config(tiny(tmp_path / "run", ema_statistics="standing", standing_batches=5, steps=4))
    seen: list[dict[str, Tensor]] = []

    class Seen(GanTraining):
        def validate(self, step: int, kind: str, heading: str) -> Any:
            found = super().validate(step, kind, heading)
            if kind == "ema":
                state = {name: value.clone() for name, value in self.generator.state_dict().items()}
                torch.testing.assert_close(state["norm.running_mean"], self.mean(step), rtol=1e-5, atol=1e-6)
                self.generator.load_state_dict(state)
                seen.append(state)
            return found

        def mean(self, step: int) -> Tensor:
            """The mean over the batches of the means of what the last norm sees."""
            held: list[Tensor] = []
            layer: Any = self.generator.norm
            hook = layer.register_forward_pre_hook(lambda module, args: held.append(args[0].double()))
            with torch.no_grad():
                for at in range(5):
                    self.bench.generate(step * 5 + at, "standing", 16)
            hook.remove()
            return torch.stack([x.mean((0, 2, 3)) for x in held]).mean(0).float()

    run(config, Seen)
    assert len(seen) == 1
    stored = read(tmp_path / "run" / "checkpoints", "ema").tensors["generator"]
    torch.testing.assert_close(stored, seen[0], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_resumes_to_the_bit(tmp_path: Path, processes: int) -> None:
    whole, cut = ({"config": tiny(tmp_path / name)} for name in ("whole", "cut"))
    code, output = launch([whole], tmp_path, processes)
    assert code == 0, output
    code, _ = launch([{**cut, "die": 4}], tmp_path, processes)
    assert code != 0
    code, output = launch([{**cut, "resume": True}], tmp_path, processes)
    assert code == 0, output
    same(tmp_path / "whole", tmp_path / "cut")


def test_bf16_computes_in_bf16_and_keeps_float32(tmp_path: Path) -> None:
    task, seen = opened(tmp_path / "run", precision="bf16", channels_last=True), list[Any]()
    for network in task.networks.values():
        layer: Any = network.raw.linear
        layer.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    x, y = task.batches.at(0)
    found = task.bench.discriminator_loss(0, 2 * x - 1, y)
    assert task.bench.generator_loss(0).dtype == found["discriminator_loss"].dtype == torch.float32
    assert seen == 4 * [torch.bfloat16]  # of both networks, in both updates


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, in torch
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++")
def test_a_compiled_run_trains_what_another_does(tmp_path: Path) -> None:
    tensors = []
    for compiled in (False, True):
        train(tiny(tmp_path / f"{compiled}", steps=1, compile=compiled))
        tensors.append(read(tmp_path / f"{compiled}" / "checkpoints", "last").tensors)
    alike(*tensors)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    tensors = []
    for processes in (1, 2):
        out, changes = tmp_path / f"run-{processes}", {"steps": 1, "augment": {"translation": 0.125}}
        code, output = launch([{"config": tiny(out, **changes)}], tmp_path, processes)
        assert code == 0, output
        tensors.append(read(out / "checkpoints", "last").tensors)
    alike(*tensors)


def alike(one: Any, other: Any) -> None:
    """Weights and statistics after a step of Adam are equal up to the order of sums.

    But for biases that a norm takes away again: their gradient is rounding, of which Adam makes a step.
    """
    gone = {f"blocks.0.{layer}.bias" for layer in ("conv1", "conv2", "shortcut")}
    for network in ("generator", "discriminator"):
        for name, value in one[network].items():
            if network == "discriminator" or name not in gone:
                torch.testing.assert_close(other[network][name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_run_without_an_extractor_says_that_nothing_is_measured(
    tmp_path: Path, npz: MakeNpz, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {"data": npz([0, 1] * 32, 2), "images": None, "steps": 1, "judge": None}
    train(tiny(tmp_path / "plain", **plain, extractor=None))
    assert "nothing, without an extractor" in capsys.readouterr().out
    assert "Closing evaluations" not in write_run_page(tmp_path / "plain").read_text()
    train(tiny(tmp_path / "measured", **plain))
    warnings = compare([tmp_path / "plain", tmp_path / "measured"]).warnings
    assert any("do not compare their numbers: not measured: " in warning for warning in warnings)
