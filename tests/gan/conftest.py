"""Small data sets in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.gan_case import MakeNpz


@pytest.fixture
def npz(tmp_path: Path) -> MakeNpz:
    """Makes a set of random images of 8x8 pixels with these labels; gives its spec."""

    def make(labels: Sequence[int], classes: int, channels: int = 1) -> str:
        draw = np.random.default_rng(0)
        shape = (len(labels), 8, 8) if channels == 1 else (len(labels), 8, 8, channels)
        images = draw.integers(0, 256, shape, dtype=np.uint8)
        names = np.array([str(k) for k in range(classes)])
        parts: dict[str, Any] = {
            f"{part}_{what}": value
            for part in ("train", "test")
            for what, value in (("images", images), ("labels", np.array(labels)))
        }
        np.savez(tmp_path / "data.npz", classes=names, **parts)
        return f"npz:{tmp_path / 'data.npz'}"

    return make
