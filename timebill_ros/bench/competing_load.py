# Copyright 2026 timebill_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

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
    """A context manager with one busy process per core: they run from `start()` until the context is left."""

    def __enter__(self) -> CompetingLoad:
        context = multiprocessing.get_context('spawn')
        self._stop = context.Event()
        self._processes = [context.Process(target=_burn, args=(self._stop,), daemon=True)
                           for _ in range(available_cores())]
        return self

    def start(self) -> None:
        """Start the processes."""
        for process in self._processes:
            process.start()

    def __exit__(self, *error) -> None:
        self._stop.set()
        for process in self._processes:
            if process.pid:
                process.join(5.0)
                process.terminate()
