"""A deadline on the monotonic clock. The clock is injectable, so tests need not wait."""
from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]  # seconds, never going back


class Deadline:
    """An instant `at_s` on `clock`. `at_s` may be moved while a request runs (simulated time changes its pace)."""

    def __init__(self, at_s: float, clock: Clock = time.monotonic):
        self.at_s = at_s
        self.clock = clock

    def remaining(self) -> float:
        """Seconds left; negative once it has passed."""
        return self.at_s - self.clock()

    def expired(self, margin_s: float = 0.0) -> bool:
        """Whether at most `margin_s` seconds are left."""
        return self.remaining() <= margin_s
