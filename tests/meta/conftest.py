"""Accelerate on the device meta."""

from collections.abc import Iterator

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from robustsabn.trainers.processes.distributed import accelerator


@pytest.fixture
def meta_accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """What moves and reduces tensors in a run, with the device meta in place of a GPU."""
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    yield accelerator(False)
    AcceleratorState._reset_state(reset_partial_state=True)
