"""Stopping on SIGINT, SIGTERM or SIGUSR1: the current step is finished and the state saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupted", "Signals", "noted"]

# cluster schedulers send SIGTERM, or SIGUSR1 if configured, some time before SIGKILL; Windows has no SIGUSR1
_STOP = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """Raised when a signal stopped a run and its state is saved; `resume` continues it.

    The signals are SIGINT, SIGTERM and SIGUSR1.

    Example:

        >>> from robustsabn.trainers import Interrupted
        >>> issubclass(Interrupted, KeyboardInterrupt)
        True
    """


class Signals:
    """Records whether a signal to stop has arrived."""

    def __init__(self) -> None:
        self.received = self.immediate = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler; a second SIGINT stops immediately."""
        before, self.received = self.received, True
        if (
            self.immediate and not before
        ):  # only once: a further signal may arrive while files are being closed
            raise Interrupted
        if before and number == signal.SIGINT:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A signal inside or before the block raises Interrupted, because the block saves no state."""
        self.immediate = True
        try:
            if self.received:
                raise Interrupted
            yield
        finally:
            self.immediate = False


@contextlib.contextmanager
def noted() -> Iterator[Signals]:
    """Record signals inside the block and restore the previous handlers after it.

    A nested block reuses the outer one.
    """
    outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    main = threading.current_thread() is threading.main_thread()  # other threads cannot set handlers
    if main and isinstance(outer, Signals):
        yield outer
        return
    signals = Signals()
    before = {number: signal.signal(number, signals.note) for number in (_STOP if main else ())}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
