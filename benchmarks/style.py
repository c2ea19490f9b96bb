"""Stylised pictures of runs on pairs that no run has seen: losses, content, seconds per picture, and a grid.

python benchmarks/style.py RUN [RUN ...] --content FOLDER --styles FOLDER [--judge ENCODER] [--size 384]
    [--others FOLDER] [--out FILE.md] [--grid FILE.png]

Every content picture is stylised with every style picture. All results are measured by one encoder, by
default that of the first run. FOLDER of --others has the results of another program, CONTENT--STYLE.png."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from PIL import Image
from timing import write_table
from torch import Tensor

from robustsabn.data.decoding import SUFFIXES, decode
from robustsabn.layers import instance_moments
from robustsabn.models.style import Encoder, Stylizer, build_encoder
from robustsabn.trainers.runs.grids import grid
from robustsabn.trainers.style.losses import moments, style_losses
from robustsabn.trainers.style.sampling import load_stylizer

Pictures = dict[str, Tensor]
Results = dict[tuple[str, str], Tensor]
HEAD = [
    "network",
    "style loss",
    "nearer to style",
    "content correlation",
    "alpha 0, dB",
    "CPU seconds a picture",
]


def pictures(folder: Path, size: int) -> Pictures:
    """The central squares of the pictures in a folder, (1, 3, size, size) in [0, 1], by file name."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return {path.stem: decode(path, size)[None] / 255 for path in files}


def stylised(stylizer: Stylizer, contents: Pictures, styles: Pictures) -> tuple[Results, float, float]:
    """All results, the PSNR of the contents at alpha 0, and the median of seconds per picture."""
    results, seconds, errors = Results(), list[float](), list[float]()
    for name, style in styles.items():
        statistics = stylizer.style_statistics(style)
        for content, x in contents.items():
            began = time.process_time()
            results[content, name] = stylizer.stylize(x, statistics)
            seconds.append(time.process_time() - began)
    for x in contents.values():
        again = stylizer.stylize(x, stylizer.style_statistics(x), alpha=0.0)
        errors.append(-10 * float((again - x).square().mean().log10()))
    return results, sum(errors) / len(errors), median(seconds)


@torch.no_grad()
def judged(judge: Encoder, tap: str, results: Results, contents: Pictures, styles: Pictures) -> list[float]:
    """Mean style loss, share nearer to the style than to the content, content correlation at `tap`."""
    taps, rows = judge.taps[: judge.taps.index(tap) + 1], []
    seen = {name: judge(x, tap) for name, x in (contents | styles).items()}
    for (content, style), result in results.items():
        found = judge(result, tap)
        made = moments(found, taps)
        losses = [
            sum(map(float, style_losses(made, moments(seen[to], taps)).values())) for to in (style, content)
        ]
        kept = [(f - m) / s for f in (found[tap], seen[content][tap]) for m, s in [instance_moments(f)]]
        rows.append([losses[0], float(losses[0] < losses[1]), float((kept[0] * kept[1]).mean())])
    return torch.tensor(rows).mean(0).tolist()


def rows_of(
    results: Mapping[str, tuple[Results, float | None, float | None]],
    judge: Encoder,
    tap: str,
    contents: Pictures,
    styles: Pictures,
) -> list[list[str]]:
    """The rows of the table."""
    untouched = {(content, style): contents[content] for content in contents for style in styles}
    rows = []
    for name, (found, psnr, seconds) in {"content as it is": (untouched, None, None), **results}.items():
        loss, nearer, kept = judged(judge, tap, found, contents, styles)
        cells = [name, f"{loss:.2f}", f"{100 * nearer:.0f} %", f"{kept:.2f}"]
        rows.append([*cells, *("" if v is None else f"{v:.{d}f}" for v, d in ((psnr, 1), (seconds, 2)))])
    return rows


def main() -> None:
    """Measure all runs, print and write the table, and draw the grid."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument("--styles", type=Path, required=True)
    parser.add_argument("--judge", help="an encoder, such as vgg16:FILE; by default that of the first run")
    parser.add_argument("--tap", help="the last tap that is compared; by default that of the first run")
    parser.add_argument("--checkpoint")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--others", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--grid", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    contents, styles = pictures(args.content, args.size), pictures(args.styles, args.size)
    loaded = {run.name: load_stylizer(run, args.checkpoint).stylizer for run in args.runs}
    first = next(iter(loaded.values()))
    tap, judge = args.tap or first.tap, first.encoder
    if args.judge:
        judge = build_encoder(args.judge)
        judge.calibrate(torch.cat([*contents.values(), *styles.values()]))
    results = {name: stylised(stylizer, contents, styles) for name, stylizer in loaded.items()}
    table: dict[str, tuple[Results, float | None, float | None]] = {**results}
    if args.others:
        other = {pair: args.others / f"{'--'.join(pair)}.png" for pair in next(iter(results.values()))[0]}
        table[args.others.name] = (
            {pair: decode(path, args.size)[None] / 255 for pair, path in other.items()},
            None,
            None,
        )
    title = f"Style transfer at {args.size} pixels, judged by {judge.spec.partition(':')[0]} up to {tap}"
    write_table(title, HEAD, rows_of(table, judge, tap, contents, styles), args.out)
    if args.grid:
        draw(args.grid, {name: found for name, (found, *_) in table.items()}, contents, styles)


def draw(file: Path, results: Mapping[str, Results], contents: Pictures, styles: Pictures) -> None:
    """A row for each pair (content k, style k): content, style, then a result of each network."""
    pairs = list(zip(contents, styles, strict=False))
    rows = [
        torch.cat([contents[c], styles[s], *(found[c, s] for found in results.values())]) for c, s in pairs
    ]
    small = torch.stack([F.interpolate(row, (192, 192), mode="bilinear", antialias=True) for row in rows])
    pixels = (grid(small, gap=2).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    Image.fromarray(pixels.numpy()).save(file)


if __name__ == "__main__":
    main()
