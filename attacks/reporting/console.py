"""A report on the terminal."""

from rich.console import Console
from rich.table import Table

from robustsabn.attacks.report import Report
from robustsabn.attacks.reporting.words import comparable, headline, threat_text
from robustsabn.report.console import result_table
from robustsabn.report.numbers import duration, percent

__all__ = ["console_table", "tell"]


def console_table(report: Report) -> Table:
    """Robust accuracy and cost after each attack."""
    head = ["attack", "images", "broken", "accuracy", "forwards", "backwards", "time"]
    rows = [["clean", str(report.n), "", percent(report.clean_accuracy), "", "", ""]]
    for a in report.attacks:
        costs = [f"{a.forwards:,}", f"{a.backwards:,}", duration(a.seconds)]
        rows.append([a.name, str(a.points), str(a.broken), percent(a.robust_accuracy), *costs])
    return result_table(f"{report.version}, {threat_text(report)}", head, rows)


def tell(report: Report, console: Console | None = None) -> None:
    """Print the table, the headline and every flag in words."""
    console = console or Console(soft_wrap=True, highlight=False)
    console.print(console_table(report))
    console.print(headline(report), style="bold", markup=False)
    if all(flag.name != "non-standard" for flag in report.flags):  # says the same
        console.print(comparable(report), markup=False)
    for flag in sorted(report.flags, key=lambda flag: flag.severity != "warning"):
        style = "bold red" if flag.severity == "warning" else ""
        console.print(f"{flag.severity}: {flag.name}: {flag.message}", style=style, markup=False)
