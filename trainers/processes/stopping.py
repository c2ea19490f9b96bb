"""Stopping together: what one process of a run was asked, all know."""

import time

import torch
from accelerate import Accelerator

from robustsabn.trainers.processes.distributed import gathered
from robustsabn.trainers.processes.signals import Signals

__all__ = ["Stop"]

SECONDS = 1.0  # between exchanges; launchers kill half a minute after their signal
STEPS = 20  # at most, should steps become slower


class Stop:
    """Whether any process of a run was asked to stop. All of them ask after the same steps, and hear the
    same.
    """

    def __init__(self, accelerator: Accelerator, signals: Signals) -> None:
        self.accelerator, self.signals = accelerator, signals
        self.due = self.last = 0
        self.since, self.pace = time.perf_counter(), torch.inf

    def asked(self, step: int) -> bool:
        """Whether to stop after `step` steps. Several processes exchange this about once a second only, for
        it waits for the device.
        """
        if self.accelerator.num_processes == 1:
            return self.signals.received
        if step < self.due:
            return False
        received, pace = self._exchanged(self.pace)
        now = time.perf_counter()  # the device has done all steps so far
        self.pace = (now - self.since) / max(step - self.last, 1)
        self.since, self.last = now, step
        self.due = step + int(min(max(SECONDS / pace, 1), STEPS))
        return received

    def heard(self) -> bool:
        """Whether any process has been asked so far."""
        return self._exchanged(0.0)[0]

    def _exchanged(self, pace: float) -> tuple[bool, float]:
        """Whether any process has received a signal, and the largest `pace`."""
        if self.accelerator.num_processes > 1:
            own = torch.tensor([[float(self.signals.received), pace]], device=self.accelerator.device)
            received, pace = gathered(self.accelerator, own).amax(0).tolist()
            self.signals.received |= bool(received)
        return self.signals.received, pace
