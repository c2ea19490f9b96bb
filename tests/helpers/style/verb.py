"""Calls of `robustsabn stylize` with two runs whose networks have random weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from robustsabn.cli import main
from tests.helpers.style.stylizers import random_stylizer

__all__ = ["ADAIN", "COLOURS", "GREY", "ROUTES", "load", "saved", "stylized"]

COLOURS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = np.ascontiguousarray(COLOURS[..., 0])
ADAIN, ROUTES = random_stylizer(), random_stylizer("routes", styles=("waves", "dots"))


def load(folder: Path, checkpoint: str | None, encoder: str | None) -> Any:
    """Instead of `load_stylizer`: the runs `run`, and `routes` with two fixed styles."""
    stylizer = {"run": ADAIN, "routes": ROUTES}[folder.name]
    return SimpleNamespace(stylizer=stylizer, config=SimpleNamespace(size=16), checkpoint="best", step=7)


def stylized(*words: str, run: str = "run") -> int:
    """The exit code of the command: a.png in the style of b.png to out.png, unless `words` say otherwise."""
    style = [] if "--style" in words else ["--style", "waves" if run == "routes" else "b.png"]
    content = [] if "--content" in words else ["--content", "a.png"]
    out = [] if "--out" in words else ["--out", "out.png"]
    return main(["stylize", "--run", run, *content, *style, *out, *words])


def saved(name: str, pixels: "np.ndarray[Any, Any]" = COLOURS, mode: str | None = None, **how: Any) -> None:
    """Write pixels to the file `name`, in another mode of PIL if given."""
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(name, **how)
