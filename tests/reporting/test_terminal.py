"""What the terminal shows of a report, and of an evaluation on its way."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from robustsabn.attacks.report import Flag, ProgressEvent
from robustsabn.attacks.reporting import live, tell
from robustsabn.report.numbers import duration, eps_text
from tests.helpers.attacks.report_case import report_case


def printed(width: int = 120) -> Console:
    return Console(file=io.StringIO(), width=width, soft_wrap=True, highlight=False)


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_tells_numbers_and_flags() -> None:
    report, _ = report_case()
    report = replace(
        report,
        flags=(
            *report.flags,
            Flag(name="markup", severity="note", count=0, ids=(), message="[bold]as it is[/bold]"),
        ),
    )
    console = printed()
    tell(report, console)
    said = output(console)
    for text in ("apgd-ce", "60.00 %", "30,024", "Clean accuracy 90.00 %", "18.7 to 81.3 %", "RobustBench"):
        assert text in said, text
    assert said.index("warning: square-only") < said.index("note: randomised")
    assert "[bold]as it is[/bold]" in said


def event(attack: str, index: int, left: int, robust: int, total: int = 9) -> ProgressEvent:
    return ProgressEvent(
        attack=attack, index=index, attacks=2, left=left, total=total, robust=robust, n=10, seconds=1.0
    )


EVENTS = [
    event("apgd-ce", 0, 9, 9),
    event("apgd-ce", 0, 0, 6),
    event("square", 1, 6, 6, 6),
    event("square", 1, 0, 5, 6),
]


def test_progress_is_one_line_an_attack_where_there_is_no_terminal() -> None:
    console = printed()
    with live(console) as show:
        for each in EVENTS:
            show(each)
    assert output(console).splitlines() == [
        "apgd-ce: robust accuracy 60.00 % after 9 images, 1.0 s",
        "square: robust accuracy 50.00 % after 6 images, 1.0 s",
    ]


def test_progress_on_a_terminal_shows_what_is_left() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, soft_wrap=True, highlight=False)
    with live(console) as show:
        show(EVENTS[0])
        show(replace(EVENTS[0], left=4, robust=7))
    said = output(console)
    assert "apgd-ce (1 of 2)" in said
    assert "4 left, robust 70.0 %" in said


def test_an_interrupted_evaluation_tells_no_last_line() -> None:
    console = printed()

    def interrupted() -> None:
        with live(console) as show:
            show(EVENTS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert output(console) == ""


@pytest.mark.parametrize(
    ("eps", "said"),
    [(8 / 255, "8/255"), (0.5, "0.5"), (0.15, "0.15"), (0.0314, "0.0314"), (12.0, "12"), (1 / 255, "1/255")],
)
def test_radii_are_written_as_people_write_them(eps: float, said: str) -> None:
    assert eps_text(eps) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.44, "0.4 s"), (9.97, "10 s"), (59.6, "1 min 00 s"), (7800.0, "2 h 10 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
