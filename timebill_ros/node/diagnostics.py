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

"""What /diagnostics says: the node counts, a timer reports."""
from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from timebill_ros.dispatch.load import load_of


def report(node: str, state: str, dispatcher, description: str, now: float,
           warning: str = '') -> list[DiagnosticStatus]:
    """Return the three statuses: deadlines, execution time, worker.

    `node` is the fully qualified name of the node. It begins the name of each status, because a monitor keeps one row
    for each name, whoever sends it. `dispatcher` is None while unconfigured. `now` is the monotonic instant.
    `warning` says what is wrong around the node, for instance with ROS time; empty: nothing.
    """
    device = dispatcher.facts.device if dispatcher is not None else ''

    def _status(name: str, level: bytes, message: str, **values) -> DiagnosticStatus:
        return DiagnosticStatus(name=f'{node}: {name}', level=level, message=message, hardware_id=device,
                                values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])

    ok, warn, error = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
    if dispatcher is None:
        return [_status(name, ok, f'the node is {state}') for name in ('deadlines', 'execution time', 'worker')]
    counts = dispatcher.counts
    recent = dispatcher.recent.miss_rate(now, dispatcher.settings['miss_rate'])
    level = (ok, warn, error)[max(recent.level, bool(warning))]
    deadlines = _status('deadlines', level, f'{warning}; {recent}' if warning else str(recent), **counts,
                        miss_rate=f'{counts["missed"] / max(1, counts["promised"]):.4f}',
                        recent_promised=recent.promised, recent_missed=recent.missed,
                        recent_miss_rate=f'{recent.rate or 0.0:.4f}', allowed_miss_rate=recent.allowed,
                        waiting=load_of(dispatcher.held(), now).waiting)
    tracked = dict(dispatcher.facts.tracked)
    unusual = tracked.pop('unusual')  # the level says so
    times = _status('execution time', warn if unusual else ok,
                    f'decode steps take {tracked["timing_factor"]:.2f} times as long as profiled; check clocks, power '
                    f'mode and what else runs, or profile again ({description})' if unusual else description,
                    **{name: f'{value:.3f}' for name, value in tracked.items()})
    ready = dispatcher.is_ready
    starting = state == 'unconfigured'  # a dispatcher in this state: configuring, the worker has not been up yet
    stage = f': {dispatcher.facts.stage}' if dispatcher.facts.stage else ''
    worker = _status('worker', ok if ready or starting else error,
                     'serving' if ready else ('the inference process is starting' if starting else
                                              'the inference process is not available; it is being restarted') + stage,
                     pid=dispatcher.worker_pid, restarts=counts['worker_restarts'])
    return [deadlines, times, worker]
