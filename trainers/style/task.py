"""Style transfer, as a task for the training loop."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustsabn.errors import ConfigError, DataError
from robustsabn.models.style import StyleStatistics, Stylizer
from robustsabn.models.style.norms import StyleRoutes
from robustsabn.trainers.loop.averages import Ema
from robustsabn.trainers.loop.batches import Batch, Batches
from robustsabn.trainers.loop.compiling import compile_network
from robustsabn.trainers.loop.draws import generator
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.loop.task import Task
from robustsabn.trainers.loop.updates import build_optimizer
from robustsabn.trainers.runs.metrics import Record
from robustsabn.trainers.runs.monitor import Monitor
from robustsabn.trainers.style.analysis import MOST_STYLES, analysed
from robustsabn.trainers.style.config import StyleConfig
from robustsabn.trainers.style.evaluation import Evaluator
from robustsabn.trainers.style.networks import (
    build_network,
    encoder_facts,
    freeze_all_but_routes,
    rebuild_network,
    used_taps,
    with_styles,
)
from robustsabn.trainers.style.pictures import crops, draw_places, read_content, read_styles
from robustsabn.trainers.style.results import RESULTS, StyleEvaluation
from robustsabn.trainers.style.sampling import load_stylizer
from robustsabn.trainers.style.step import StyleStep

__all__ = ["StyleTraining"]

SHORTEST_EPOCH = 100
"""Steps; embedded photos are few."""
CALIBRATION = 16
"""Crops of content and of style that the encoder is calibrated on, each."""


class StyleTraining(Task[StyleConfig, StyleEvaluation]):
    """A decoder and a norm behind a frozen encoder."""

    config = StyleConfig
    results = RESULTS
    remedy: ClassVar[str] = "lower optim.lr or style_weight, set optim.clip, or train in fp32"

    def __init__(self, run: Run[StyleConfig]) -> None:
        config, acc = run.config, run.accelerator
        self.run, self.options = run, config
        self.pictures = read_content(config.data, config.size, config.images)
        self.paintings = read_styles(config.styles, config.size, config.norm == "routes")
        self.content = {"data": self.pictures.digest, "styles": self.paintings.digest}
        self.stylizer = self._network()
        taps = used_taps(config, self.stylizer)
        if config.crop < 2 * self.stylizer.stride or config.crop % self.stylizer.stride:
            stride = self.stylizer.stride
            raise ConfigError(f"crop={config.crop}; give a multiple of {stride}, at least {2 * stride}")
        # a decoder that is not trained has nothing to learn from a reconstruction
        self.reconstructing = config.reconstruct if config.start is None else 0.0
        self.first = len(self.stylizer.styles) - len(self.paintings.train) if self.stylizer.styles else 0
        if config.channels_last:
            self.stylizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            compile_network(self.stylizer)
        optimizer = build_optimizer(self.stylizer, config.optim)
        self.networks, self.updates = run.prepare(
            {"stylizer": self.stylizer}, {"stylizer": (optimizer, config.optim, config.schedule)}
        )
        sets = {"content": self.pictures, "style": self.paintings}
        self.batches = {
            name: Batches(
                pictures.at_least(config.batch_size),
                batch_size=config.batch_size,
                seed=config.seed,
                purpose=name,
                device=acc.device,
                rank=acc.process_index,
                world=acc.num_processes,
            )
            for name, pictures in sets.items()
        }
        self.steps_per_epoch = max(SHORTEST_EPOCH, self.batches["content"].steps_per_epoch)
        self.bench = StyleStep(run, self.networks["stylizer"], taps)
        if config.ema is not None:
            self.averages = {"ema": Ema(self.stylizer, config.ema)}

    def start(self, step: int, total: int, monitor: Monitor) -> None:
        self.total = total
        self.streams: dict[str, Iterator[Batch]] = {
            name: batches.run(step, total) for name, batches in self.batches.items()
        }
        self.evaluator = Evaluator(
            self.run, self.stylizer, self.bench.taps, self.pictures, self.paintings, self.first, monitor
        )

    def step(self, step: int) -> dict[str, Tensor]:
        content, _ = next(self.streams["content"])
        style, number = next(self.streams["style"])
        routes = number + self.first if self.stylizer.styles else None
        x, y = self._cropped("content", content, step), self._cropped("style", style, step)
        logged = self.bench.backward(x, y, routes, step < self.reconstructing * self.total)
        return logged | self.updates["stylizer"](step, self.total)

    def validate(self, step: int, kind: str, heading: str) -> StyleEvaluation:
        return self.evaluator.validate(step, kind, heading)

    def score(self, measured: StyleEvaluation) -> list[float]:
        """The loss with the target that no norm can move."""
        config = self.options
        return [
            -config.content_weight * measured.content_loss_adain - config.style_weight * measured.style_loss
        ]

    def close(self, step: int, kind: str, heading: str) -> StyleEvaluation:
        return self.evaluator.close(step, kind, heading)

    def analysed(self, count: int) -> Record:
        contents, styles = self.evaluator.views(count, MOST_STYLES)
        return analysed(self.bench, contents, styles, self.first)

    def facts(self) -> dict[str, Any]:
        return {
            "encoder": encoder_facts(self.stylizer.encoder),
            "styles": list(self.stylizer.styles),
            "added": len(self.paintings.train) if self.options.start is not None else None,
            "content": self.content,
        }

    def data_sha256(self) -> dict[str, str]:
        return {"data": self.pictures.sha256, "styles": self.paintings.sha256}

    def notes(self) -> list[str]:
        return [*self.pictures.notes, *self.paintings.notes]

    def batch(self, step: int) -> dict[str, Tensor]:
        whole = {name: batches.whole(step)["images"] for name, batches in self.batches.items()}
        return {name: self._cropped(name, x, step, share=False) for name, x in whole.items()}

    def _cropped(self, name: str, x: Tensor, step: int, share: bool = True) -> Tensor:
        """Random crops of this process's part of a batch; drawn on the CPU, since they are places."""
        config = self.options
        source = generator("cpu", config.seed, f"{name} crops", step)
        places = draw_places(config.batch_size, x.shape[-1], config.crop, config.largest_crop, source)
        x = crops(x, places[self.run.share(config.batch_size)] if share else places, config.crop)
        return x.contiguous(memory_format=torch.channels_last) if config.channels_last else x

    def _network(self) -> Stylizer:
        """The network as training begins; that of a resumed run gets its weights from the checkpoint."""
        config, names = self.options, self.paintings.names
        if self.run.resumed is not None:
            state = self.run.resumed.stored.state
            stylizer = rebuild_network(config, state, self.run.folder.path)
            self._check_content(state)
            if state["added"] is not None:
                kept = len(state["styles"]) - state["added"]
                freeze_all_but_routes(stylizer, kept * stylizer.encoder.channels[stylizer.tap])
            return stylizer
        if config.start is not None:
            loaded = load_stylizer(config.start, encoder=config.encoder)
            stylizer = with_styles(loaded.stylizer, names)
        else:
            stylizer = build_network(config, names if config.norm == "routes" else ())
            stylizer.encoder.calibrate(torch.cat([self._some("content"), self._some("style")]))
        if isinstance(stylizer.norm, StyleRoutes):
            for k, name in enumerate(names):
                x, _ = self.paintings.train.batch(torch.tensor([k]))
                with torch.no_grad():
                    stylizer.norm.start_from(name, StyleStatistics(*stylizer.style_statistics(x)))
        return stylizer

    def _some(self, name: str) -> Tensor:
        """A few crops, always the same."""
        config = self.options
        images = (self.pictures if name == "content" else self.paintings).at_least(CALIBRATION)
        x, _ = images.batch(torch.arange(CALIBRATION) * len(images) // CALIBRATION)
        source = generator("cpu", 0, f"{name} calibration")
        return crops(
            x, draw_places(len(x), x.shape[-1], config.crop, config.largest_crop, source), config.crop
        )

    def _check_content(self, state: dict[str, Any]) -> None:
        for key, value in self.content.items():
            same_place = state["config"].get(key) == getattr(self.options, key)
            if same_place and state.get("content", {}).get(key) != value:
                raise DataError(
                    f"the content of {key}={getattr(self.options, key)} has changed since the run in "
                    f"{self.run.folder.path} began; restore it, or start a new run with out="
                )


TASK = StyleTraining
