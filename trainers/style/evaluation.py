"""Evaluations of a network on fixed pairs of pictures, and the pictures to look at."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from robustsabn.data import ImageSet
from robustsabn.layers import instance_moments
from robustsabn.models.style import StyleStatistics, Stylizer
from robustsabn.models.style.norms import Style
from robustsabn.trainers.loop.compiling import uncompiled
from robustsabn.trainers.loop.run import Run
from robustsabn.trainers.processes.distributed import shared
from robustsabn.trainers.runs.grids import grid
from robustsabn.trainers.runs.monitor import Monitor
from robustsabn.trainers.style.config import StyleConfig
from robustsabn.trainers.style.losses import Moments, moments
from robustsabn.trainers.style.pictures import Pictures, centre, resized
from robustsabn.trainers.style.results import RESULTS, StyleEvaluation
from robustsabn.trainers.style.step import adain_target

__all__ = ["Evaluator", "pairs", "stylised_grid"]

ROWS, COLUMNS, SIDE = 3, 7, 192
BATCH = 8


def pairs(contents: int, styles: int, n: int) -> list[tuple[int, int]]:
    """At most n different pairs (content, style); all contents and styles occur as often as possible."""
    everything = [(k % contents, (k + k // contents) % styles) for k in range(contents * styles)]
    different = list(dict.fromkeys(everything))
    rest = [(c, s) for c in range(contents) for s in range(styles)]
    return list(dict.fromkeys(different + rest))[:n]


class Evaluator:
    """Measures and shows stylised pictures on the main process, and reports to the monitor."""

    def __init__(
        self,
        run: Run[StyleConfig],
        stylizer: Stylizer,
        taps: tuple[str, ...],
        content: Pictures,
        styles: Pictures,
        first: int,
        monitor: Monitor,
    ) -> None:
        """`first` is the route of the first style picture, in a network with fixed styles."""
        self.run, self.config, self.stylizer, self.taps = run, run.config, stylizer, taps
        self.content, self.styles, self.first, self.monitor = content, styles, first, monitor
        self.chosen = pairs(len(content.held_out), len(styles.held_out), run.config.validation.images)
        self.device = run.accelerator.device

    def validate(self, step: int, kind: str, heading: str) -> StyleEvaluation:
        """Losses of the held-out pairs, and a grid of pictures."""
        measured = shared(self.run.accelerator, partial(self._measured))
        self.monitor.say(f"{heading}  {measured}")
        self.monitor.record(kind, step, measured.to_dict())
        if self.monitor.active and kind == ("validation" if self.config.ema is None else "ema"):
            self.monitor.picture("validation/pictures", self._grid(), step)
        return measured

    def close(self, step: int, kind: str, heading: str) -> StyleEvaluation:
        """The same measurements, as a table."""
        measured = shared(self.run.accelerator, partial(self._measured))
        self.monitor.table(RESULTS.table(measured, heading))
        self.monitor.record(kind, step, measured.to_dict())
        return measured

    @torch.no_grad()
    def _measured(self) -> StyleEvaluation:
        each: dict[str, list[Tensor]] = {}
        with uncompiled(self.stylizer):
            for start in range(0, len(self.chosen), BATCH):
                for name, values in self._batch(self.chosen[start : start + BATCH]).items():
                    each.setdefault(name, []).append(values)
        means = {name: float(torch.cat(values).double().mean()) for name, values in each.items()}
        by_tap = {tap: means.pop(f"tap {tap}") for tap in self.taps}
        return StyleEvaluation(
            pairs=len(self.chosen), by_tap=by_tap, encoder=self.stylizer.encoder.spec, **means
        )

    def _batch(self, chosen: list[tuple[int, int]]) -> dict[str, Tensor]:
        """The numbers of single pairs, (n,) each."""
        network, taps = self.stylizer, self.taps
        contents, styles = (
            self._views(pictures.held_out, [pair[side] for pair in chosen])
            for side, pictures in enumerate((self.content, self.styles))
        )
        features = network.encode(contents)
        style_features = network.encoder(styles)
        wanted, own = moments(style_features, taps), moments(network.encoder(contents), taps)
        statistics = instance_moments(style_features[network.tap])
        picture, target = network(features, self._style(statistics, [pair[1] for pair in chosen]))
        picture = picture.clamp(0, 1)
        found = network.encoder(picture)
        result, made = found[network.tap], moments(found, taps)
        mean, std = instance_moments(features)
        mean_of_result, std_of_result = instance_moments(result)
        by_tap = {tap: _each_style_loss(made, wanted, tap) for tap in taps}
        style_loss = torch.stack(list(by_tap.values())).sum(0)
        to_content = torch.stack([_each_style_loss(made, own, tap) for tap in taps]).sum(0)
        before = torch.stack([_each_style_loss(own, wanted, tap) for tap in taps]).sum(0)
        correlation = (features - mean) / std * ((result - mean_of_result) / std_of_result)
        again = network.decoder(features).clamp(0, 1)
        return {
            "content_loss": _each_mse(result, target),
            "content_loss_adain": _each_mse(result, adain_target(features, statistics)),
            "style_loss": style_loss,
            "style_loss_of_content": before,
            "nearer_to_style": (style_loss < to_content).float(),
            "content_correlation": correlation.flatten(1).mean(1),
            "reconstruction_db": -10 * _each_mse(again, contents).clamp(min=1e-10).log10(),
            **{f"tap {tap}": values for tap, values in by_tap.items()},
        }

    def views(self, contents: int, styles: int) -> tuple[Tensor, Tensor]:
        """At most so many held-out contents and styles, (N, 3, H, W) each."""
        photos, paintings = self.content.held_out, self.styles.held_out
        few, some = range(min(contents, len(photos))), range(min(styles, len(paintings)))
        return self._views(photos, list(few)), self._views(paintings, list(some))

    def _style(self, statistics: tuple[Tensor, Tensor], numbers: list[int]) -> Style:
        if self.stylizer.styles:
            return torch.tensor(numbers, device=self.device) + self.first
        mean, std = statistics
        return StyleStatistics(mean.flatten(1), std.flatten(1))

    def _views(self, images: ImageSet, places: list[int]) -> Tensor:
        x, _ = images.batch(torch.tensor(places), self.device)
        return centre(x, self.config.crop, self.config.largest_crop)

    def _grid(self) -> Tensor:
        return stylised_grid(
            self.stylizer, _some(self.content, ROWS), _some(self.styles, COLUMNS), self.first
        )


def stylised_grid(stylizer: Stylizer, contents: Tensor, styles: Tensor, first: int = 0) -> Tensor:
    """One picture (3, height, width): styles above, contents on the left, results between, on the right alpha
    0.

    Contents and styles are (N, 3, H, W) in [0, 1]; with fixed styles, style k is route first + k.
    """
    device = next(stylizer.decoder.parameters()).device
    blank = torch.ones_like(contents[0])
    rows = [torch.stack([blank, *styles, blank])]
    with uncompiled(stylizer):
        chosen: list[Style] = [
            stylizer.styles[first + k] if stylizer.styles else stylizer.style_statistics(one[None].to(device))
            for k, one in enumerate(styles)
        ]
        for content in contents:
            x = content[None].to(device)
            results = [stylizer.stylize(x, style)[0] for style in chosen]
            results.append(stylizer.stylize(x, chosen[0], alpha=0.0)[0])
            rows.append(torch.stack([content, *(result.cpu() for result in results)]))
    return grid(torch.stack(rows), gap=2)


def _some(pictures: Pictures, n: int) -> Tensor:
    """The first held-out pictures, filled up with pictures of training, in the size of the grid."""
    held = [pictures.held_out.batch(torch.arange(min(n, len(pictures.held_out))))[0]]
    missing = n - len(held[0])
    if missing > 0 and pictures.held_out is not pictures.train:
        spread = [k * len(pictures.train) // missing for k in range(missing)]
        held.append(pictures.train.batch(torch.tensor(sorted(set(spread))))[0])
    return torch.cat([resized(x, SIDE) for x in held])


def _each_mse(a: Tensor, b: Tensor) -> Tensor:
    return F.mse_loss(a, b, reduction="none").flatten(1).mean(1)


def _each_style_loss(found: Moments, wanted: Moments, tap: str) -> Tensor:
    (mean, std), (mean_wanted, std_wanted) = found[tap], wanted[tap]
    return _each_mse(mean, mean_wanted) + _each_mse(std, std_wanted)
