"""Sets without parts: which images are held out, and rare classes."""

import numpy as np
import pytest
import torch

from robustsabn.data import load
from robustsabn.data.splits import hold_out, split


def rare(path: str, *counts: int) -> str:
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.arange(len(labels), dtype=np.uint16).view(np.uint8).reshape(-1, 1, 2)
    np.savez(path, images=pixels, labels=labels, classes=np.array([f"c{k}" for k in range(len(counts))]))
    return f"npz:{path}"


@pytest.fixture(autouse=True)
def _here(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("splits"))


@pytest.mark.parametrize("counts", [(150, 148, 2), (40, 40, 1), (10, 1, 1, 1, 1), (12, 2), (6, 6, 1, 1)])
def test_every_class_keeps_an_image_to_train_on(counts: tuple[int, ...]) -> None:
    spec = rare("rare.npz", *counts)
    for seed in range(40):
        data = load(spec, seed=seed)
        assert set(data.train.labels.tolist()) == set(range(len(counts)))
        ids = torch.cat([part.ids for part in (data.train, data.validation, data.test)])
        assert sorted(ids.tolist()) == list(range(sum(counts)))
        assert len(data.test) == sum(counts) // 10
        untested = [f"c{k}" for k in range(len(counts)) if k not in data.test.labels]
        said = [note for note in data.notes if "no test image" in note]
        assert bool(said) == bool(untested)
        assert all(name in said[0] for name in untested[:5])


def test_a_split_that_loses_no_class_is_what_it_was() -> None:
    labels = torch.arange(200) % 4
    for seed in range(30):
        for size in (1, 20, 40):
            for found, expected in zip(split(labels, size, seed), hold_out(200, size, seed), strict=True):
                assert torch.equal(found, expected)


def test_a_repaired_split_differs_in_the_fewest_images() -> None:
    labels = torch.tensor([0] * 58 + [1, 2])
    for seed in range(60):
        before, after = hold_out(60, 6, seed)[1], split(labels, 6, seed)[1]
        lost = [i for i in before.tolist() if i > 57]
        assert set(before.tolist()) - set(after.tolist()) == set(lost)
        assert torch.equal(before[before < 58], after[before < 58])


def test_classes_as_rare_as_images_cannot_all_be_kept() -> None:
    kept, held = split(torch.arange(12), 3, seed=0)
    assert torch.cat([kept, held]).sort().values.tolist() == list(range(12))


def test_a_subset_that_leaves_a_class_out_is_said() -> None:
    data = load(rare("rare.npz", 150, 148, 2), n=10)
    assert any("1 of 3 classes have no training image: c2" in note for note in data.notes)
    pixels = np.zeros((20, 4, 4), np.uint8)
    np.savez("own.npz", images=pixels, labels=np.arange(20) % 2, classes=np.array(["a", "b", "never"]))
    assert any("1 of 3 classes have no training image: never" in note for note in load("npz:own.npz").notes)


def test_digits_are_said_nothing_of() -> None:
    assert load("digits").notes == ()
