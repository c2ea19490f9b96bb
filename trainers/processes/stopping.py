"""Stopping all processes of a run together when one of them receives a signal."""

import time

import torch
from accelerate import Accelerator

from robustsabn.trainers.processes.distributed import gathered
from robustsabn.trainers.processes.signals import Signals

__all__ = ["Stop"]

SECONDS = 1.0  # between exchanges; launchers kill 30 seconds after their signal
STEPS = 20  # at most between exchanges, if steps become slower


class Stop:
    """Whether any process of a run was asked to stop; all get the same answer after the same step."""

    def __init__(self, accelerator: Accelerator, signals: Signals) -> None:
        self.accelerator, self.signals = accelerator, signals
        self.due = self.last = 0
        self.since, self.pace = time.perf_counter(), torch.inf

    def requested(self, step: int) -> bool:
        """Whether to stop after `step` steps.

        Several processes exchange this only about once a second, because it synchronises the device.
        """
        if self.accelerator.num_processes == 1:
            return self.signals.received
        if step < self.due:
            return False
        received, pace = self._exchanged(self.pace)
        now = time.perf_counter()  # the exchange has synchronised the device
        self.pace = (now - self.since) / max(step - self.last, 1)
        self.since, self.last = now, step
        self.due = step + int(min(max(SECONDS / pace, 1), STEPS))
        return received

    def requested_so_far(self) -> bool:
        """Whether any process has received a signal so far."""
        return self._exchanged(0.0)[0]

    def _exchanged(self, pace: float) -> tuple[bool, float]:
        """Whether any process has received a signal, and the largest `pace`."""
        if self.accelerator.num_processes > 1:
            own = torch.tensor([[float(self.signals.received), pace]], device=self.accelerator.device)
            received, pace = gathered(self.accelerator, own).amax(0).tolist()
            self.signals.received |= bool(received)
        return self.signals.received, pace
