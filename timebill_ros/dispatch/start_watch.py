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

"""Tells a start of the worker that takes long from one that hangs.

The worker reports every few seconds what it does and whether it has got on since (worker/start_report.py). A start is
given up where it has not got on for `worker_start_timeout_s`, however long it takes as a whole.
"""
from __future__ import annotations

import logging

from timebill_ros.deadline import Clock

log = logging.getLogger(__name__)


class StartWatch:
    """Watches one start after another. It has no thread: the supervisor tells it of messages and asks it in time."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Watch a start that begins now."""
        self._began_s = self.advanced_s = self._clock()  # when it began, and got on last
        self.stage = ''  # what it does, in words; empty before its first report

    def heard(self, report: dict) -> None:
        """Take a report of the worker, and log it."""
        if report.get('advanced'):
            self.advanced_s = self._clock()
        self.stage = stage_of(report)
        log.info('starting the inference process: %s', self.stage)

    def gives_up(self, limit_s: float) -> str:
        """Return why a start is ended that has not got on for `limit_s`."""
        at = f'; it was at {self.stage}' if self.stage else ''
        took_s = self._clock() - self._began_s
        return (f'the worker was not ready after {took_s:.0f} s, and its start did not get on for {limit_s:.0f} s '
                f'(worker_start_timeout_s){at}')


def stage_of(report: dict) -> str:
    """Return a report in words."""
    left_s = report.get('left_s')
    rest = 'longer than expected' if report.get('longer') else f'about {left_s or 0.0:.0f} s left'
    left = f'; {rest}, once for this model and device' if left_s is not None else ''
    return f'part {report["part"]} of {report["of"]}, {report["what"]} (for {report["for_s"]:.0f} s{left})'
