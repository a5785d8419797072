"""Another program that computes on every core, for measurements on a machine that is not ours alone."""
from __future__ import annotations

import math
import multiprocessing

from timebill_ros.inference.threads import available_cores


def _burn(stop) -> None:
    x = 0.0
    while not stop.is_set():
        for i in range(10_000):
            x += math.sqrt(i)


class CompetingLoad:
    """A context: nothing runs until `start()`, and nothing outlives it."""

    def __enter__(self) -> CompetingLoad:
        context = multiprocessing.get_context('spawn')
        self._stop = context.Event()
        self._processes = [context.Process(target=_burn, args=(self._stop,), daemon=True)
                           for _ in range(available_cores())]
        return self

    def start(self) -> None:
        for process in self._processes:
            process.start()

    def __exit__(self, *error) -> None:
        self._stop.set()
        for process in self._processes:
            if process.pid:
                process.join(5.0)
                process.terminate()
