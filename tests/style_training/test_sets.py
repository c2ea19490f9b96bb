"""Pictures: what is held out, crops, textures, and folders that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustsabn.errors import DataError
from robustsabn.trainers.loop.draws import generator
from robustsabn.trainers.style.evaluation import pairs
from robustsabn.trainers.style.pictures import centre, crops, draw_places, read_content, read_styles
from robustsabn.trainers.style.textures import KINDS, texture


def folder(place: Path, names: list[str]) -> Path:
    draw = np.random.default_rng(0)
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(place / name)
    return place


def test_embedded_pictures_need_no_file_and_hold_some_out() -> None:
    photos, textures = read_content("embedded", 512), read_styles("embedded:9", 512, routes=False)
    assert (len(photos.train), len(photos.held_out), photos.train.shape) == (6, 1, (3, 427, 427))
    assert (len(textures.train), len(textures.held_out), textures.train.shape) == (9, 7, (3, 192, 192))
    fixed = read_styles("embedded:8", 512, routes=True)
    assert fixed.held_out is fixed.train
    assert fixed.names == (*(f"{kind}-1" for kind in KINDS), "blocks-2")
    assert len(fixed.at_least(20)) == 24
    everything = torch.cat([p.batch(torch.arange(len(p)))[0] for p in (textures.train, textures.held_out)])
    assert len({tuple(x.flatten()[::997].tolist()) for x in everything}) == 16


@pytest.mark.parametrize("kind", KINDS)
def test_a_texture_depends_on_its_seed_only(kind: str) -> None:
    first, again, other = texture(3, kind, 64), texture(3, kind, 64), texture(4, kind, 64)
    assert (first.dtype, tuple(first.shape)) == (torch.uint8, (3, 64, 64))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.float().std()) > 5


def test_of_a_folder_a_tenth_is_held_out_or_the_part_val(tmp_path: Path) -> None:
    names = [f"{k:02}.png" for k in range(20)]
    found = read_content(str(folder(tmp_path / "a", names)), 16)
    assert (len(found.train), len(found.held_out)) == (18, 2)
    assert found.train.shape == (3, 16, 16)
    assert len(read_content(str(tmp_path / "a"), 16, n=5).train) == 5
    found = read_styles(str(folder(tmp_path / "b", ["train/x.png", "train/y/z.png", "val/v.png"])), 16, False)
    assert (found.names, len(found.held_out)) == (("x", "z"), 1)
    routes = read_styles(str(tmp_path / "b"), 16, routes=True)
    assert routes.names == ("x", "z", "v")
    one = read_styles(str(tmp_path / "a" / "03.png"), 16, routes=False)
    assert "used for validation too" in one.notes[0]
    assert read_styles(str(tmp_path / "a" / "03.png"), 16, routes=True).names == ("03",)


def test_a_crop_is_a_part_of_the_picture() -> None:
    x = torch.rand(400, 3, 40, 40)
    places = draw_places(400, 40, 16, 24, generator("cpu", 0, "crops", 1))
    assert places == draw_places(400, 40, 16, 24, generator("cpu", 0, "crops", 1))
    assert places != draw_places(400, 40, 16, 24, generator("cpu", 0, "crops", 2))
    assert {side for side, *_ in places} == set(range(16, 25))
    assert {top + side for side, top, _, _ in places} >= {40}
    assert {left for _, _, left, _ in places} >= {0}
    assert 0.4 < sum(mirrored for *_, mirrored in places) / 400 < 0.6
    made = crops(x, places, 16)
    assert made.shape == (400, 3, 16, 16)
    k = next(k for k, (side, *_) in enumerate(places) if side == 16)
    _, top, left, mirrored = places[k]
    part = x[k, :, top : top + 16, left : left + 16]
    assert torch.equal(made[k], part.flip(2) if mirrored else part)
    assert torch.equal(centre(x, 16, 16), x[..., 12:28, 12:28])


@pytest.mark.parametrize(
    ("contents", "styles", "n"), [(1, 7, 7), (4, 4, 9), (3, 5, 99), (6, 4, 24), (5, 1, 3)]
)
def test_pairs_are_different_and_balanced(contents: int, styles: int, n: int) -> None:
    found = pairs(contents, styles, n)
    assert len(set(found)) == len(found) == min(n, contents * styles)
    for side, size in enumerate((contents, styles)):
        counts = [[pair[side] for pair in found].count(k) for k in range(size)]
        assert max(counts) - min(counts) <= 1


def test_pictures_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data: no such folder"):
        read_content(str(tmp_path / "none"), 16)
    with pytest.raises(DataError, match="holds no pictures"):
        read_styles(str(tmp_path), 16, routes=False)
    with pytest.raises(DataError, match="two pictures are called a"):
        read_styles(str(folder(tmp_path, ["x/a.png", "y/a.png"])), 16, routes=True)
    (tmp_path / "x" / "b.png").write_text("text")
    with pytest.raises(DataError, match=r"b\.png cannot be decoded"):
        read_styles(str(tmp_path / "x"), 16, routes=True)
    with pytest.raises(DataError, match="embedded:0"):
        read_styles("embedded:0", 16, routes=False)
    with pytest.raises(DataError, match="crop=32 is larger"):
        draw_places(1, 20, 32, 32, torch.Generator())
