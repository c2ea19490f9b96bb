"""Batches are a function of seed and step, whatever the number of processes."""

from pathlib import Path

import pytest
import torch

from robustsabn.data import load_test
from robustsabn.errors import ConfigError
from robustsabn.trainers.config import Augment
from robustsabn.trainers.loop.batches import Batches


def test_batches_visit_every_image_once_an_epoch_and_shares_make_the_batch() -> None:
    images = load_test("digits", 50)
    augment = Augment(crop=1, flip=True)

    def make(rank: int, world: int) -> Batches:
        return Batches(
            images,
            batch_size=16,
            seed=7,
            augment=augment,
            device=torch.device("cpu"),
            rank=rank,
            world=world,
        )

    whole = list(make(0, 1).run(0, 6))
    halves = list(zip(make(0, 2).run(0, 6), make(1, 2).run(0, 6), strict=True))
    for (x, y), ((x0, y0), (x1, y1)) in zip(whole, halves, strict=True):
        assert torch.equal(x, torch.cat([x0, x1]))
        assert torch.equal(y, torch.cat([y0, y1]))
    with pytest.raises(ConfigError, match="batch_size 16 does not divide by 3 processes"):
        make(0, 3)
    later = list(make(0, 1).run(4, 6))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[4:], later, strict=True))
    plain = Batches(images, batch_size=10, seed=7, device=torch.device("cpu"))
    seen = torch.cat([x for x, _ in plain.run(0, 5)]).flatten(1)
    assert torch.equal(
        torch.unique(seen, dim=0), torch.unique(images.batch(torch.arange(50))[0].flatten(1), dim=0)
    )


def test_folders_are_read_ahead_in_the_same_order(tmp_path: Path) -> None:
    from PIL import Image

    from robustsabn.data import load

    for i in range(60):
        place = tmp_path / f"class{i % 3}"
        place.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (4 * i, i, 0)).save(place / f"{i}.png")
    lazy = load(f"imagefolder:{tmp_path},size=8").train
    batches = Batches(lazy, batch_size=6, seed=1, device=torch.device("cpu"))
    found = list(batches.run(3, 12))
    again = Batches(lazy, batch_size=6, seed=1, device=torch.device("cpu"))
    direct = [next(again.run(s, s + 1)) for s in range(3, 12)]
    assert all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(found, direct, strict=True)
    )
