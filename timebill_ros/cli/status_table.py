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

"""The table that `timebill monitor --lines` prints: a header, and a line for each message of the status topic."""
from __future__ import annotations

import math

from timebill_ros.codes import ErrorCode, FinishReason, Phase, Verdict, name_of
from timebill_ros.monitoring.first_verdicts import FirstVerdicts

UNKNOWN = '-'
WIDTHS = {'time': 14, 'request': 8, 'phase': 8, 'verdict': 18, 'now': 18, 'slack s': 9, 'wcet s': 9, 'evicted': 7,
          'tokens': 14}
RIGHT = ('slack s', 'wcet s', 'evicted', 'tokens')  # columns of numbers


class StatusTable:
    """Makes lines of status messages.

    `verdict` is that of a request's first plan, from the moment that it is told until the end: it holds the promise.
    `now` is what a later look at the clock says, where that is something else.
    """

    def __init__(self):
        self._first = FirstVerdicts()

    @staticmethod
    def header() -> str:
        return _columns({name: name for name in WIDTHS}) + ' end'

    def line(self, m) -> str:
        """Return one RequestStatus as a line."""
        stamp = f'{m.header.stamp.sec}.{m.header.stamp.nanosec // 10 ** 6:03d}'
        if not m.request_id:
            return f'{stamp} the node is {"degraded: see /diagnostics" if m.degraded else "well again"}'
        over = m.phase >= Phase.DONE
        verdict, now = self._verdicts(m, over)
        end = ''
        if over:
            end = f' {name_of(FinishReason, m.finish_reason)} {name_of(ErrorCode, m.error_code)}' + \
                  ('' if math.isnan(m.response_time_s) else f' in {m.response_time_s:.3f} s')
        # `overrun` of the message is also true for a goal that was cut at its deadline and so ended in time.
        if m.tardiness_s > 0:
            end += f' OVERRUN by {m.tardiness_s:.3f} s'
        return (_columns({
            'time': stamp, 'request': m.request_id[:8], 'phase': name_of(Phase, m.phase), 'verdict': verdict,
            'now': now, 'slack s': _number(m.slack_s, '.3f'), 'wcet s': _number(m.wcet_s, '.3f'),
            'evicted': _number(m.eviction_ratio, '.1%'),
            'tokens': f'{m.generated_tokens}/{m.predicted_tokens or UNKNOWN}/{m.pessimistic_tokens or UNKNOWN}',
        }) + end).rstrip()

    def _verdicts(self, m, over: bool) -> tuple[str, str]:
        """Return what stands under `verdict` and under `now`."""
        first = self._first.of(m)
        changed = not over and m.verdict not in (first, Verdict.UNKNOWN)
        return _verdict(first), _verdict(m.verdict) if changed else ''


def _verdict(number: int) -> str:
    return UNKNOWN if number == Verdict.UNKNOWN else name_of(Verdict, number)


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else UNKNOWN


def _columns(texts: dict[str, str]) -> str:
    return ' '.join(texts[name].rjust(width) if name in RIGHT else texts[name].ljust(width)
                    for name, width in WIDTHS.items())
