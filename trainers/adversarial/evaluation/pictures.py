"""Pictures of an attack: images with predictions and magnified differences, and the classes it confuses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from robustsabn.text import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MOST_CLASSES", "attacked_images", "confusion"]

MOST_CLASSES = 100
"""Confusions of more classes are not drawn."""
INK, RIGHT, WRONG = "#24292f", "#1f7a4d", "#b3261e"
SIDE, GAP, LINE, HEAD, LETTERS, SIZE = 88, 8, 20, 92, 11, 15


def attacked_images(
    x: Tensor, x_adv: Tensor, labels: Sequence[str], predictions: Sequence[str], attacked: Sequence[str]
) -> Tensor:
    """A picture (3, height, width) of images, adversarial images and differences, (N, C, H, W) in [0, 1].

    Below the images are the names of their labels, of the `predictions` and of those for x_adv, `attacked`.
    Differences are magnified so that the largest fills the range; grey is 0.
    """
    largest = float((x_adv - x).abs().max())
    times = 0.5 / largest if largest else 1.0
    rows = [_enlarged(images) for images in (x, x_adv, 0.5 + times * (x_adv - x))]
    height, width = rows[0].shape[1:3]
    column = max(width, SIDE) + GAP
    captions = [
        [("label", labels), ("prediction", predictions)],
        [("prediction", attacked)],
        [],
    ]
    names = ["image", "attacked", f"difference\nx {times:.3g}"]
    lines = sum(map(len, captions))
    total = 3 * (height + GAP) + lines * LINE + GAP
    picture = Image.new("RGB", (HEAD + len(x) * column, total), "white")
    drawing, font = ImageDraw.Draw(picture), ImageFont.load_default(SIZE)
    top = GAP
    for name, images, below in zip(names, rows, captions, strict=True):
        drawing.text((GAP, top), name, INK, font)
        for i, image in enumerate(images):
            picture.paste(Image.fromarray(image), (HEAD + i * column, top))
        top += height + 2
        for what, texts in below:
            drawing.text((GAP, top), what, INK, font)
            for i, text in enumerate(texts):
                colour = INK if what == "label" else RIGHT if text == labels[i] else WRONG
                drawing.text((HEAD + i * column, top), shorten(text, LETTERS), colour, font)
            top += LINE
        top += GAP - 2
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def confusion(counts: Tensor, classes: Sequence[str], title: str) -> "Figure":
    """A heat map of `counts` (K, K), labels as rows, predictions as columns, in % of each row."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shares = 100 * counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    many = len(classes)
    side = min(12.0, 2.2 + 0.42 * many)
    figure = Figure(figsize=(side + 0.6, side))  # a layout that is computed would take longer than drawing
    with rc_context({"text.parse_math": False}):  # names of classes are no formulas
        axes = figure.add_axes((1.4 / side, 1.2 / side, 1 - 1.9 / side, 1 - 1.7 / side))
        axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=100, aspect="auto")
        if many <= 20:
            for i, row in enumerate(shares.tolist()):
                for k, share in enumerate(row):
                    if share >= 0.5:
                        colour = "white" if share > 60 else INK
                        axes.text(k, i, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
        every = max(1, many // 40)
        names = [shorten(name, LETTERS) for name in classes][::every]
        axes.set_xticks(range(0, many, every), names, rotation=90, fontsize=8)
        axes.set_yticks(range(0, many, every), names, fontsize=8)
        axes.set_xlabel("prediction")
        axes.set_ylabel("label")
        axes.set_title(title, fontsize=9, color=INK)
    return figure


def _enlarged(images: Tensor) -> np.ndarray:
    """Images (N, H, W, 3) of bytes, whose pixels are repeated so that the images are large enough to see."""
    times = max(1, -(-SIDE // images.shape[-1]))
    levels = (images.clamp(0, 1) * 255).round().byte().cpu()
    levels = levels.expand(-1, 3, -1, -1) if levels.shape[1] == 1 else levels[:, :3]
    repeated = levels.repeat_interleave(times, 2).repeat_interleave(times, 3)
    return repeated.permute(0, 2, 3, 1).contiguous().numpy()
