"""`robustsabn stylize`: what it writes, and what it refuses in one line."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustsabn.style import picture_statistics, read_picture, stylize, transfer
from tests.helpers.style.verb import ADAIN, COLOURS, ROUTES, saved, stylized

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--style", "gone.jpg"], "style 'gone.jpg': there is no such file"),
        (["--style", "."], "style '.': there is no such file"),
        (["--style", ""], "a style is empty text"),
        (["--content", "gone.jpg"], "--content gone.jpg: there is no such file"),
        (["--content", "empty"], "--content empty has no pictures"),
        (["--mask", "gone.png"], "gone.png: there is no such file"),
        (["--alpha", "1.5"], "--alpha must be a number from 0 to 1; got '1.5'"),
        (["--alpha", "-1"], "--alpha must be a number from 0 to 1"),
        (["--alpha", "nan"], "--alpha must be a number from 0 to 1"),
        (["--alpha", "strong"], "--alpha must be a number from 0 to 1; got 'strong'"),
        (["--blend", "a.png"], "--blend 'a.png': give a style and its weight"),
        (["--blend", "a.png=2"], "--blend 'a.png' must be a number from 0 to 1"),
        (["--blend", "a.png=.6", "--blend", "c.png=.4"], "the weights sum to 1; give less than 1"),
        (["--blend", "a.png=.1", "--blend", "a.png=.1"], "names 'a.png' twice"),
        (["--blend", "b.png=.1"], "names 'b.png' twice"),
        (["--blend", "gone.png=.1"], "style 'gone.png': there is no such file"),
        (["--size", "0"], "--size is 0"),
        (["--size", "99999"], "a.png: 149998 x 99999 pixels are more than"),
        (["--tile", "8"], "this network needs tiles of at least"),
        (["--style-size", "-3"], "--style-size is -3"),
        (["--device", "tpu"], "--device"),
        (["--preserve-color", "hue"], "--preserve-color"),
        (["--out", "a.png"], "--out: a.png exists"),
        (["--out", "./empty/../a.png"], "exists; choose another name"),
        (["--out", "x.gif"], "--out x.gif: give the name of a new folder, or of a picture"),
        (["--out", "x.unknown"], "--out x.unknown: give the name of a new folder, or of a picture"),
        (["--out", "gone/x.png"], "there is no folder gone; make it first"),
        (["--out", "plain"], "--out plain exists"),
        (["--out", ""], "a.png exists"),
        (["--content", "empty", "--out", "x.png"], "has no pictures"),
        (["--content", "a.png", "b.png", "--out", "x.png"], "is one picture; give the name of a new folder"),
        (["--content", "pictures", "--out", "pictures"], "is the folder of the contents"),
        (["--content", "pictures/a.png", "--out", "pictures"], "pictures/a.png exists"),
        (["--content", "clear.png", "--out", "x.jpg"], "transparent pixels, which JPEG cannot hold"),
        (["--content", "a\0.png"], "NUL character"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    words: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("pictures").mkdir()
    Path("plain").touch()
    saved("pictures/a.png")
    saved("clear.png", np.full((5, 5, 4), 9, np.uint8))
    before = sorted(here.rglob("*"))
    assert stylized(*words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_a_folder_that_is_not_writable_is_found_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: Any, **more: Any) -> Any:
        raise PermissionError(13, "Permission denied", "frames")

    def work(*given: Any, **more: Any) -> Any:
        raise AssertionError("worked")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(transfer, "stylize", work)
    assert stylized("--out", "frames") == 2
    told = capsys.readouterr().err
    assert "frames: Permission denied; check that the folder exists and is writable" in told
    assert told.count("\n") == 1


def test_the_picture_is_that_of_the_library(here: Path) -> None:
    saved("m.png", np.repeat(np.arange(5, dtype=np.uint8)[None] * 60, 4, 0))
    assert stylized("--alpha", "4/5", "--blend", "a.png=.25", "--mask", "m.png", "--preserve-color") == 0
    first, second = (
        picture_statistics(ADAIN, read_picture(name, 16, enlarge=False)) for name in ("b.png", "a.png")
    )
    expected = stylize(
        ADAIN,
        read_picture("a.png"),
        [(first, 0.75), (second, 0.25)],
        alpha=0.8,
        keep_colours=True,
        mask=np.repeat(np.arange(5, dtype=np.uint8)[None] * 60, 4, 0),
    )
    assert np.array_equal(read_picture("out.png").pixels, expected.pixels)
    assert sorted(os.listdir(here)) == ["a.png", "b.png", "m.png", "out.png"]


def test_every_option_changes_the_picture() -> None:
    results = []
    for k, words in enumerate(
        (
            [],
            ["--alpha", "0.5"],
            ["--style", "a.png"],
            ["--blend", "a.png=0.5"],
            ["--preserve-color"],
            ["--preserve-color", "moments"],
            ["--mask", "b.png"],
            ["--style-size", "5"],
        )
    ):
        assert stylized(*words, "--out", f"out{k}.png") == 0
        results.append(read_picture(f"out{k}.png").pixels.tobytes())
    assert len(set(results)) == len(results)
    assert stylized("--size", "11", "--out", "small.png") == 0
    assert read_picture("small.png").size == (11, 16)  # 30 * 11 / 20 = 16.5, to the even number


def test_fixed_styles_go_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert stylized("--out", "1.png", run="routes") == 0
    assert stylized("--style", "dots", "--blend", "waves=0.3", "--out", "2.png", run="routes") == 0
    expected = stylize(ROUTES, read_picture("a.png"), [("dots", 0.7), ("waves", 0.3)])
    assert np.array_equal(read_picture("2.png").pixels, expected.pixels)
    assert capsys.readouterr().out.endswith("next: python -m webbrowser 2.png\n")
    for words, said in (
        (["--style", "wave"], "style 'wave' is none of this run (did you mean waves?)"),
        (["--style", "b.png"], "which has fixed styles: waves, dots"),
        (["--blend", "b.png=.5"], "style 'b.png' is none of this run"),
        (["--preserve-color", "moments"], "keep the colours by luminance"),
    ):
        assert stylized(*words, "--out", "3.png", run="routes") == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1


def test_a_folder_goes_on_past_broken_files_and_names_them_at_the_end(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = here / "frames"
    frames.mkdir()
    for k in range(4):
        saved(f"frames/{k}.png", COLOURS // (k + 1))
    Path("frames/1.png").write_text("broken")
    Path("frames/notes.txt").write_text("no picture")
    Path("frames/.hidden.png").write_text("no picture")
    measured = list[object]()
    counted = picture_statistics

    def count(*given: Any) -> Any:
        measured.append(given)
        return counted(*given)

    monkeypatch.setattr("robustsabn.style.styles.picture_statistics", count)
    assert stylized("--content", "frames", "--out", "new") == 2
    captured = capsys.readouterr()
    assert "note: 1 entry of frames left out" in captured.out
    assert "left out: frames/1.png cannot be decoded" in captured.out
    assert captured.err == "robustsabn: 3 pictures written to new, 1 left out: 1.png\n"
    assert sorted(os.listdir("new")) == ["0.png", "2.png", "3.png"]
    assert len(measured) == 1  # the style's, once for all frames
    statistics = counted(ADAIN, read_picture("b.png", 16, enlarge=False))
    expected = stylize(ADAIN, read_picture("frames/3.png"), statistics)
    assert np.array_equal(read_picture("new/3.png").pixels, expected.pixels)


def test_contents_of_one_name_do_not_overwrite_each_other(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("x", "y"):
        Path(folder).mkdir()
        saved(f"{folder}/p.png", COLOURS if folder == "x" else COLOURS // 3)
        saved(f"{folder}/p.bmp", COLOURS)
    saved("P-2.png", COLOURS // 2)
    words = ["x", "y", "P-2.png", "./x/p.png"]  # the last one a second time
    assert stylized("--content", *words, "--out", "new") == 0
    out = capsys.readouterr().out
    assert sorted(os.listdir("new")) == ["P-2-2.png", "p-2.png", "p-3.png", "p-4.png", "p.png"]
    assert "note: y/p.png becomes p-4.png, since another content has its name" in out
    assert "5 pictures written to new" in out
    assert stylized("--content", *words, "--out", "new") == 2
    assert "and 4 more exist" in capsys.readouterr().err
    assert stylized("--content", "b.png", "--out", "new") == 0  # nothing is in its way there


def test_wide_pictures_are_computed_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    saved("wide.png", np.random.default_rng(0).integers(0, 256, (40, 8000, 3), dtype=np.uint8))
    largest, plain = [0], ADAIN.stylize

    def watched(content: Any, *given: Any) -> Any:
        largest[0] = max(largest[0], *content.shape[2:])
        return plain(content, *given)

    monkeypatch.setattr(ADAIN, "stylize", watched)
    assert stylized("--content", "wide.png") == 0
    assert read_picture("out.png").size == (40, 8000)
    assert 512 < largest[0] <= 1024
