"""Batches on a device without values: images are there, and what a step brings over is not waited for."""

from typing import Any

import pytest
import torch

from robustsabn.data import ArraySet
from robustsabn.trainers.config import Augment
from robustsabn.trainers.loop import batches
from tests.helpers.device import META, no_copies

SIZE, CLASSES = 8, 3


def held(n: int) -> ArraySet:
    return ArraySet(torch.zeros(n, 1, 6, 6, dtype=torch.uint8), torch.arange(n) % CLASSES)


@pytest.mark.parametrize("extra", [None, 2], ids=["one set", "extra images"])
@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_a_batch(mix: Any, extra: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "generator", lambda device, *seed: None)  # meta has none
    made = batches.Batches(
        held(40),
        batch_size=SIZE,
        seed=0,
        device=META,
        augment=Augment(crop=2, flip=True, mix=mix),
        classes=CLASSES,
        extra=None if extra is None else (held(20), extra),
    )
    with no_copies():
        for x, y in made.run(0, 2):
            assert x.is_meta
            assert x.shape == (SIZE, 1, 6, 6)
            assert y.is_meta
            assert y.shape == ((SIZE,) if mix == "none" else (SIZE, CLASSES))
