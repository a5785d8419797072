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

"""Whether the profile still fits the machine: looked at by the worker at start and while it runs, and told once."""
from __future__ import annotations

import logging
import os

from timebill_ros.planning.tracker import Tracker
from timebill_ros.timing.drift import is_unusual

log = logging.getLogger(__name__)


class ProfileCheck:
    """Warns once where times are unlike those of the profile.

    `name`: what the profile is called. `remedy`: what the user can do, as the end of a sentence.
    """

    def __init__(self, name: str, remedy: str):
        self._name, self._remedy, self._told = name, remedy, False

    def at_start(self, tracker: Tracker, ratios: dict[str, float]) -> None:
        """Take note of fresh measurements: measured over profiled time, by kind (profiling.spot_check).

        A slower machine corrects the estimates of the first goals. Whether a machine is really quicker than profiled is
        left to the goals: believed too soon, that would break promises.
        """
        ratios = {kind: ratio for kind, ratio in ratios.items() if kind in ('prefill', 'step') and is_unusual(ratio)}
        tracker.correct(**{kind: ratio for kind, ratio in ratios.items() if ratio > 1})
        self._tell(tracker, ratios)

    def observe(self, tracker: Tracker) -> None:
        """Take note of what finished requests have taught."""
        ratios = {'prefill': tracker.prefill.value, 'step': tracker.steps.value(tracker.steps.latest)}
        self._tell(tracker, {kind: ratio for kind, ratio in ratios.items() if is_unusual(ratio)})

    def _tell(self, tracker: Tracker, ratios: dict[str, float]) -> None:
        if not ratios or self._told:
            return
        self._told = True
        names = {'prefill': 'prefill takes', 'step': 'a decode step takes'}
        found = ' and '.join(f'{names[kind]} {ratio:.2f} times' for kind, ratio in ratios.items())
        meanwhile = 'Estimates follow what is measured' if tracker.track_timing else \
            'Estimates stay as profiled, because track_timing is false'
        log.warning('%s does not fit this machine %s: %s as long as profiled. %s. If this stays so, %s',
                    self._name, _now(), found, meanwhile, self._remedy)


def _now() -> str:
    """Return since when or why the times are others, as far as it can be told."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return f'as busy as it is (a load of {load:.1f} on {cores} cores)' if load > cores + 0.5 else 'any more'
