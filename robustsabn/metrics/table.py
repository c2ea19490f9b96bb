"""The quality of images as a table."""

from collections.abc import Iterator

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from robustsabn.metrics.quality import Quality, short_count
from robustsabn.report.numbers import percent

__all__ = ["quality_table"]


def quality_table(found: Quality, title: str) -> Table:
    """One line per number, with its full name and the numbers to compare it with."""
    table = Table(title=Text(title), caption=Text(_caption(found)), caption_justify="left", box=SIMPLE)
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("beside")
    for name, value, beside in _lines(found):
        table.add_row(Text(name), value, Text(beside))
    return table


def _lines(found: Quality) -> Iterator[tuple[str, str, str]]:
    label, numbers = found.basis.label, found.numbers
    if found.fid is not None:
        yield label("fid"), f"{found.fid:.4g}", f"real {found.floor:.4g}" if found.floor is not None else ""
    if found.kid is not None:
        yield label("kid"), str(found.kid), f"subsets of {found.kid_subset}"
    if found.inception_score is not None:
        yield label("is"), str(found.inception_score), ""
    for name in ("precision", "recall", "density", "coverage"):
        if name in numbers:
            yield label(name), f"{numbers[name]:.3f}", ""
    if "intra_class_fid" in numbers:
        yield label("intra-class fid"), f"{numbers['intra_class_fid']:.4g}", "mean of classes"
    if "diversity" in numbers:
        yield (
            label("diversity"),
            f"{numbers['diversity']:.4g}",
            f"real {numbers['real_diversity']:.4g}",
        )
    if (judged := found.judged) is not None:
        name = f"class accuracy[{judged.judge}, n={short_count(found.basis.fake)}]"
        yield name, percent(judged.accuracy), f"worst {percent(min(judged.accuracies), 1)}"


def _caption(found: Quality) -> str:
    basis = found.basis
    real = "" if found.floor_images is None else f"; {found.floor_images:,} other real images"
    return (
        f"extractor {basis.extractor} ({basis.features} features, digest {basis.digest}); {basis.fake:,} "
        f"images against {basis.real:,} of {basis.reference} ({basis.split}){real}"
    )
