"""`robustsabn stylize`: pictures in the style of others, from the run of a style transfer."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from robustsabn.errors import DataError, UsageError
from robustsabn.text import counted, quote, shorten

if TYPE_CHECKING:
    from rich.console import Console

    from robustsabn.models.style import Stylizer
    from robustsabn.style.outputs import Work
    from robustsabn.style.pictures import Pixels
    from robustsabn.style.styles import Styles
    from robustsabn.style.transfer import Progress

__all__ = ["HELP", "configure", "run"]

HELP = "put pictures, or the frames of a video, into the style of other pictures"
EPILOG = (
    "The style of a run of norm routes is one of its fixed styles: --style NAME. Several styles: --style "
    "A.jpg --blend B.jpg=0.3 --blend C.jpg=0.2, where A.jpg has the rest, 0.5."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add = parser.add_argument
    add("--run", metavar="RUN", type=Path, required=True, dest="run_folder", help="a run folder")
    add("--content", metavar="A", type=Path, nargs="+", required=True, help="pictures, or folders of them")
    add("--style", metavar="B", required=True, help="a picture, or the name of a fixed style")
    add("--blend", metavar="C=W", action="append", default=[], help="a further style, and its weight")
    add("--alpha", metavar="X", default="1", help="strength, from 0 to 1, the default")
    add(
        "--preserve-color",
        nargs="?",
        const="luminance",
        choices=("luminance", "moments"),
        help="keep the colours of the content: by luminance, which changes nothing but brightness, or by "
        "moments, which recolours the style before",
    )
    add("--mask", metavar="M", help="a grey picture: white where the style is wanted, black where it is not")
    add("--size", metavar="N", type=int, help="scale the content so that its shorter side has N pixels")
    add("--style-size", metavar="N", type=int, help="the same of larger styles; by default as in training")
    add("--tile", metavar="N", type=int, help="pixels computed at once in each direction, 1024 by default")
    add("--out", metavar="OUT", type=Path, required=True, help="a new picture, or a folder for several")
    add("--checkpoint", choices=("best", "last", "ema"), help="by default ema if the run has it")
    add("--encoder", metavar="E", help="the encoder, if its file has moved, such as vgg_normalised:FILE")
    add("--device", metavar="D", help="cpu, cuda or cuda:N")


def run(args: argparse.Namespace) -> None:
    """Check everything that can be checked before the work, then stylise each content."""
    from robustsabn.arguments import a_whole_number
    from robustsabn.cli.support.arguments import device
    from robustsabn.locks import LOCK, locked
    from robustsabn.paths import given_path
    from robustsabn.report.console import output
    from robustsabn.report.following import browse
    from robustsabn.style.outputs import plan
    from robustsabn.style.pictures import read_mask
    from robustsabn.style.styles import Styles
    from robustsabn.style.transfer import TILE, check_tile
    from robustsabn.trainers.style.sampling import load_stylizer

    args.alpha = _share("--alpha", args.alpha)
    weights = _weights(args.style, args.blend)
    args.tile = TILE if args.tile is None else args.tile
    for name in ("size", "style_size", "tile"):
        if (value := getattr(args, name)) is not None:
            a_whole_number(f"--{name.replace('_', '-')}", value, UsageError, most=100_000)
    args.out = given_path(args.out, "--out", UsageError)
    work = plan(args.content, args.out)
    mask = None if args.mask is None else read_mask(given_path(args.mask, "--mask", UsageError))
    loaded = load_stylizer(args.run_folder, args.checkpoint, encoder=args.encoder)
    stylizer = loaded.stylizer.to(device(args.device) or "cpu")
    check_tile(stylizer, args.tile)
    styles = Styles(stylizer, weights, args.style_size or loaded.config.size, args.tile)
    place = args.out.parent if work.folder is None else work.folder
    with locked(place, LOCK if work.folder else f".{args.out.name}{LOCK}"):
        console = output()
        for note in (*work.notes, *styles.notes):
            console.print(f"note: {note}", markup=False)
        done = _stylize_all(args, work, stylizer, styles, mask, console)
    print(f"{done} written to {shorten(args.out)} (checkpoint {loaded.checkpoint}, step {loaded.step})")
    print(browse(args.out))


def _stylize_all(
    args: argparse.Namespace,
    work: "Work",
    stylizer: "Stylizer",
    styles: "Styles",
    mask: "Pixels | None",
    console: "Console",
) -> str:
    """Stylise each content; what was written, in words. Raises DataError at the end for those that failed."""
    from robustsabn.report.console import progress_bar

    failed = dict[Path, str]()
    with progress_bar(console) as bar:
        task = bar.add_task("stylise", total=len(work.targets), note="")
        for content, target in work.targets.items():

            def tell(tile: int, tiles: int, name: str = content.name) -> None:
                bar.update(task, note=name if tiles == 1 else f"{name}, tile {tile} of {tiles}")

            try:
                notes = _stylize_one(args, content, target, stylizer, styles, mask, tell)
            except (DataError, UsageError) as error:
                if len(work.targets) == 1:
                    raise
                failed[content] = str(error)
                notes = (f"left out: {error}",)
            for note in notes:
                console.print(note, markup=False)
            bar.advance(task)
    done = counted(len(work.targets) - len(failed), "picture")
    if failed:
        from robustsabn.data.layout import shown

        names = shown(path.name for path in failed)
        raise DataError(f"{done} written to {args.out}, {len(failed)} left out: {names}")
    return done


def _stylize_one(
    args: argparse.Namespace,
    content: Path,
    target: Path,
    stylizer: "Stylizer",
    styles: "Styles",
    mask: "Pixels | None",
    progress: "Progress",
) -> tuple[str, ...]:
    """Stylise one picture and write it; returns notes on it."""
    from robustsabn.style.pictures import read_picture
    from robustsabn.style.transfer import stylize
    from robustsabn.style.writing import check_format, write_picture

    picture = read_picture(content, args.size)
    check_format(target, picture)
    moments = args.preserve_color == "moments"
    result = stylize(
        stylizer,
        picture,
        styles.in_colours_of(picture) if moments else styles.mix,
        alpha=args.alpha,
        keep_colours=args.preserve_color == "luminance",
        mask=mask,
        tile=args.tile,
        progress=progress,
    )
    write_picture(target, result)
    return tuple(f"note: {note}" for note in picture.notes)


def _weights(style: str, blends: list[str]) -> dict[str, float]:
    """The weight of each style; UsageError unless those of `blends`, as NAME=W, leave some for `style`."""
    weights = dict[str, float]()
    for word in blends:
        name, equals, weight = word.rpartition("=")
        if not equals or not name:
            raise UsageError(f"--blend {quote(word)}: give a style and its weight, such as C.jpg=0.5")
        if name in weights or name == style:
            raise UsageError(f"--blend names {quote(name)} twice; give each style once")
        weights[name] = _share(f"--blend {quote(name)}", weight)
    rest = 1 - sum(weights.values())
    if blends and rest < 1e-9:
        raise UsageError(
            f"--blend: the weights sum to {1 - rest:g}; give less than 1, the rest is the weight of --style"
        )
    return {style: rest, **weights}


def _share(name: str, text: str) -> float:
    from robustsabn.config import number

    value = number(text)
    if value is None or not 0 <= value <= 1:
        raise UsageError(f"{name} must be a number from 0 to 1; got {quote(text)}")
    return float(value)
