"""From a training of two steps to pictures, by the commands alone."""

from pathlib import Path

import numpy as np
import pytest

from robustsabn.cli import main
from robustsabn.style import Picture, picture_statistics, read_picture, stylize, write_picture
from robustsabn.trainers.style.sampling import load_stylizer

SMALL = ["steps=2", "batch_size=2", "crop=16", "largest=16", "size=32", "validation.images=1", "device=cpu"]


def test_pictures_from_a_trained_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["train", "style-demo", *SMALL, "styles=embedded:10", f"out={run}"]) == 0
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (40, 30)), ("b.png", (64, 90))):
        write_picture(tmp_path / name, Picture(pixels=rng.integers(0, 256, (*size, 3), dtype=np.uint8)))
    a, b, out = (str(tmp_path / name) for name in ("a.png", "b.png", "out.png"))
    capsys.readouterr()
    assert main(["stylize", "--run", run, "--content", a, "--style", b, "--out", out]) == 0
    assert "1 picture written to" in capsys.readouterr().out
    stylizer = load_stylizer(run).stylizer
    statistics = picture_statistics(stylizer, read_picture(b, 32))  # larger styles have the size of training
    expected = stylize(stylizer, read_picture(a), statistics).pixels
    assert np.array_equal(read_picture(out).pixels, expected)
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "config.yaml").write_text("data: digits\nepochs: 2\n")
    for other, said in ((str(tmp_path / "digits"), "is a run of the task adversarial"), ("gone", "gone")):
        assert main(["stylize", "--run", other, "--content", a, "--style", b, "--out", f"{out}.png"]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
