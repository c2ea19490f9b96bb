"""Extra data: its share of every batch, the order of each set, the same on any number of processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustsabn.data import ArraySet, ImageSet, load, load_extra
from robustsabn.data.joined import JoinedSet
from robustsabn.errors import DataError
from robustsabn.trainers import train
from robustsabn.trainers.config import Augment, Extra
from robustsabn.trainers.loop.batches import Batches
from robustsabn.trainers.loop.order import spread
from tests.helpers.runs import die, metrics, of_method, same

OWN, OTHER = 22, 31
CPU = torch.device("cpu")


def numbered(n: int, label: int) -> ArraySet:
    """Images (1, 2, 2) that hold their number, all of one class."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2)
    return ArraySet(images.contiguous(), torch.full((n,), label))


def batches(rank: int = 0, world: int = 1, other: ImageSet | None = None, **how: Any) -> Batches:
    extra = (other or numbered(OTHER, 1), 5)
    augment = how.pop("augment", Augment())
    return Batches(
        numbered(OWN, 0),
        batch_size=8,
        seed=3,
        augment=augment,
        device=CPU,
        rank=rank,
        world=world,
        classes=2,
        extra=extra,
        **how,
    )


def numbers(x: Tensor) -> list[int]:
    found: list[int] = (x[:, 0, 0, 0] * 255).round().long().tolist()
    return found


def test_every_batch_has_as_many_of_each_set_and_each_set_is_gone_through_in_passes() -> None:
    whole = batches()
    assert whole.steps_per_epoch == OWN // 8
    seen: tuple[list[int], list[int]] = [], []
    for x, y in whole.run(0, 40):
        assert y.sum() == 5
        for number, label in zip(numbers(x), y.tolist(), strict=True):
            seen[label].append(number)
    for found, n in zip(seen, (OWN, OTHER), strict=True):
        passes = [found[start : start + n] for start in range(0, len(found) - n + 1, n)]
        assert len(passes) >= 5
        assert all(sorted(each) == list(range(n)) for each in passes)
        assert len({tuple(each) for each in passes}) == len(passes)


@pytest.mark.parametrize("mix", ["none", "mixup"])
def test_shares_of_processes_make_the_batch_and_steps_are_independent(mix: Any) -> None:
    augment = Augment(crop=1, flip=True, mix=mix)
    whole = list(batches(augment=augment).run(0, 9))
    halves = [list(batches(rank, 2, augment=augment).run(0, 9)) for rank in range(2)]
    for step, (x, y) in enumerate(whole):
        assert torch.equal(x, torch.cat([half[step][0] for half in halves]))
        assert torch.equal(y, torch.cat([half[step][1] for half in halves]))
        (alone,) = batches(augment=augment).run(step, step + 1)
        assert torch.equal(alone[0], x)
    kept = batches(1, 2, augment=augment).whole(4)
    assert torch.equal(kept["images"], whole[4][0])
    assert kept["places"].ge(OWN).sum() == 5
    replayed = list(batches(augment=augment, replays=3).run(2, 7))
    assert [torch.equal(x, whole[step // 3][0]) for step, (x, _) in enumerate(replayed, 2)] == [True] * 5


@pytest.mark.parametrize(("count", "size"), [(0, 8), (5, 8), (7, 10), (90, 128), (8, 8)])
def test_extra_images_are_spread_over_the_batch(count: int, size: int) -> None:
    places = spread(count, size)
    assert places.sum() == count
    for world in (w for w in (1, 2, 4) if size % w == 0):
        shares = [int(share.sum()) for share in places.chunk(world)]
        assert max(shares) - min(shares) <= 1


def test_sets_are_joined_in_the_order_that_is_asked_for() -> None:
    both = JoinedSet(numbered(4, 0), numbered(3, 1))
    x, y = both.batch(torch.tensor([5, 0, 6, 3, 4, 0]))
    assert numbers(x) == [1, 0, 2, 3, 0, 0]
    assert y.tolist() == [1, 0, 1, 0, 1, 0]
    assert numbers(both.batch(torch.tensor([1, 2]))[0]) == [1, 2]
    assert (len(both), both.in_memory) == (7, True)


def test_image_folders_are_read_ahead_beside_arrays(tmp_path: Path) -> None:
    for i in range(12):
        place = tmp_path / f"class{i % 2}"
        place.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2), (20 * i, i, 0)).save(place / f"{i:02}.png")
    grey = numbered(OWN, 0)
    own = ArraySet(grey.images.expand(-1, 3, -1, -1).contiguous(), grey.labels)
    like = load(f"imagefolder:{tmp_path},size=2")
    folder = load_extra(f"imagefolder:{tmp_path},size=2", like)
    assert len(folder) == 12  # all of it: none is for validation or tests
    made = Batches(own, batch_size=8, seed=3, device=CPU, extra=(folder, 3))
    everything, _ = folder.batch(torch.arange(12))
    for step, (x, _) in enumerate(made.run(0, 5)):
        places = made.whole(step)["places"]
        assert torch.equal(x[places >= OWN], everything[places[places >= OWN] - OWN])
        assert torch.equal(x, next(made.run(step, step + 1))[0])


def test_the_share_is_rounded_to_whole_images() -> None:
    assert [Extra("x", 0.7).count(size) for size in (10, 128, 1024)] == [7, 90, 717]
    assert Extra("x", 0.5).count(5) == 3


def stored(file: Path, **arrays: np.ndarray[Any, Any]) -> str:
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return f"npz:{file}"


def test_the_training_part_is_taken_or_all_of_a_set_without_parts(tmp_path: Path) -> None:
    digits = load("digits")
    grey, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 10
    assert len(load_extra(stored(tmp_path / "all.npz", images=grey, labels=labels), digits)) == 20
    two: dict[str, np.ndarray[Any, Any]] = {
        "train_images": grey,
        "train_labels": labels,
        "test_images": grey[:5],
        "test_labels": labels[:5],
    }
    assert len(load_extra(stored(tmp_path / "two.npz", **two), digits)) == 20
    only = stored(tmp_path / "test.npz", test_images=grey, test_labels=labels)
    with pytest.raises(DataError, match=r"test.npz has only test; give a set with a training part"):
        load_extra(only, digits)


def test_a_run_trains_on_it_and_resumes_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = stored(
        tmp_path / "made.npz",
        images=rng.integers(0, 256, (30, 8, 8), dtype=np.uint8),
        labels=np.arange(30) % 10,
    )
    config = {**of_method("free"), "extra": {"data": data, "fraction": 0.5}}
    result = train({**config, "out": str(tmp_path / "whole")})
    die({**config, "out": str(tmp_path / "cut")}, 5)
    train({**config, "out": str(tmp_path / "cut")}, resume=True)
    same(tmp_path / "cut", tmp_path / "whole")
    plain = train({**config, "extra": None, "out": str(tmp_path / "plain")})
    assert plain.steps == result.steps
    losses = [
        [entry["loss"] for entry in metrics(tmp_path / name) if entry["kind"] == "train"]
        for name in ("plain", "whole")
    ]
    assert losses[0] != losses[1]


def test_extra_labels_without_names_are_said(tmp_path: Path) -> None:
    images, labels = np.full((60, 8, 8), 200, np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "named.npz", images=images, labels=labels, classes=np.array(["ant", "bee", "cow"]))
    np.savez(tmp_path / "more.npz", images=images, labels=labels)
    own, notes = load(f"npz:{tmp_path / 'named.npz'}", validation=6), list[str]()
    load_extra(f"npz:{tmp_path / 'more.npz'}", own, notes=notes)
    assert any("does not name its classes" in note for note in notes)
