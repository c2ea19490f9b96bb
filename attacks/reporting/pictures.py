"""Adversarial images as pictures for a page."""

import base64
import io
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from robustsabn.attacks.report import Report

__all__ = ["Example", "drawable", "examples", "png"]

LARGEST = 224  # pixels of a side


@dataclass(frozen=True, kw_only=True)
class Example:
    """One broken sample: its row in the report, and PNGs as data URIs."""

    row: int
    clean: str
    adversarial: str
    difference: str
    gain: float
    """Factor by which the difference is amplified; grey is zero."""


def drawable(x: Tensor) -> bool:
    """Whether the samples x (N, ...) are images of one or three channels, (N, C, H, W)."""
    return x.ndim == 4 and x.shape[1] in (1, 3)


def examples(report: Report, x: Tensor, count: int = 8) -> list[Example]:
    """Up to `count` broken samples: first one for each attack that broke any, then others spread over the
    report.

    `x` (N, C, H, W): the clean images, in the order of the report.
    """
    low, high = report.bounds
    pictures = []
    for row in _spread(report, count):
        clean, adversarial = x[row].float().cpu(), report.x_adv[row].float().cpu()
        delta = (adversarial - clean) / (high - low)
        gain = 0.5 / max(delta.abs().max().item(), 1e-12)
        shown = ((clean - low) / (high - low), (adversarial - low) / (high - low), 0.5 + gain * delta)
        before, after, difference = map(png, shown)
        pictures.append(Example(row=row, clean=before, adversarial=after, difference=difference, gain=gain))
    return pictures


def png(image: Tensor) -> str:
    """An image (C, H, W) in [0, 1], one or three channels, as a data URI of at most 224 pixels a side."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _spread(report: Report, count: int) -> list[int]:
    broken = torch.nonzero(report.broken_by >= 0).flatten().tolist()
    first = {int(report.broken_by[row]): row for row in reversed(broken)}
    rows = [first[attack] for attack in sorted(first)][:count]
    others = [row for row in broken if row not in rows]
    wanted = min(count - len(rows), len(others))
    rows += [others[k * len(others) // wanted] for k in range(wanted)]
    return rows
