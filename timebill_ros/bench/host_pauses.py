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

"""Pauses of the machine itself, which no program on it can help: seen by a watchdog on each core.

A virtual machine's cores are taken from it for milliseconds. A watchdog sleeps for 10 ms at a time, at real-time
priority where the system allows it, so that no other process of this machine can delay it; what it wakes late by was a
pause. A pause that ends while it sleeps is not seen, so a late result is never excused by one that may not have been.
It runs as a process of its own: `python -m timebill_ros.bench.host_pauses CORE`.
"""
from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

SLEEP_S = 0.01  # waking every millisecond doubled the latencies of everything else on two virtual cores
LEAST_S = 0.003  # shorter ones delay nothing that is looked at
PRIORITY = 50  # of SCHED_FIFO

Pause = tuple[float, float]  # start and end, monotonic seconds


def paused_s(pauses: Sequence[Pause], start_s: float, end_s: float) -> float:
    """Return for how much of the time from `start_s` to `end_s` a core was paused; pauses may overlap."""
    total, reached = 0.0, start_s
    for start, end in sorted(pauses):
        if end > reached and start < end_s:
            total += min(end, end_s) - max(start, reached)
            reached = max(reached, end)
    return total


class HostPauses:
    """Watchdogs on all cores that this process may use, from entering the context until leaving it.

    `pauses` has the (start, end) of each pause after the end. `at_real_time` says whether the system gave them
    real-time priority; without it, a pause may also be the work of other processes.
    """

    def __init__(self):
        self.pauses: list[Pause] = []
        self.at_real_time = True
        self._watchdogs: list[subprocess.Popen] = []

    def __enter__(self) -> HostPauses:
        self._watchdogs = [
            subprocess.Popen([sys.executable, '-m', 'timebill_ros.bench.host_pauses', str(core)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for core in sorted(os.sched_getaffinity(0))]
        return self

    def __exit__(self, *error) -> None:
        for watchdog in self._watchdogs:
            output, _ = watchdog.communicate()  # closes its standard input, which ends it
            first, *lines = output.splitlines()
            self.at_real_time &= first == 'real time'
            self.pauses += [(float(start), float(end)) for start, end in map(str.split, lines)]


def watch(core: int, stop: threading.Event) -> None:
    """Print what scheduling this process got, then each pause of `core`, until `stop` is set."""
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        print('real time')
    except PermissionError:
        print('ordinary')
    before = time.monotonic()
    while not stop.is_set():
        time.sleep(SLEEP_S)
        now = time.monotonic()
        if now - before - SLEEP_S > LEAST_S:
            print(before + SLEEP_S, now)
        before = now


def main() -> None:
    """Watch the core that the command line names until standard input ends."""
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()
    threading.Thread(target=wait, daemon=True).start()
    watch(int(sys.argv[1]), stop)


if __name__ == '__main__':
    main()
