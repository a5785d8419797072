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

"""The table of `timebill monitor`: columns, what is unknown, the verdict that holds, and what is an overrun."""
import math
from types import SimpleNamespace

from timebill_ros.cli.status_table import WIDTHS, StatusTable
from timebill_ros.codes import ErrorCode, FinishReason, Phase, Verdict


def status(phase: Phase, **changed) -> SimpleNamespace:
    fields = dict(request_id='0123456789abcdef', phase=int(phase), verdict=0, finish_reason=0, error_code=0,
                  slack_s=math.nan, wcet_s=math.nan, response_time_s=math.nan, tardiness_s=math.nan,
                  eviction_ratio=math.nan, predicted_tokens=0, pessimistic_tokens=0, generated_tokens=0,
                  overrun=False, degraded=False)
    fields.update(changed)
    stamp = SimpleNamespace(sec=1700000000, nanosec=5_000_000)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), **fields)


def test_the_header_stands_over_its_columns():
    header, line = StatusTable.header(), StatusTable().line(status(Phase.DECODE, wcet_s=1.25))
    assert list(WIDTHS) == [name for name in WIDTHS if name in header]
    assert line.index('1.250') + len('1.250') == header.index('wcet s') + len('wcet s')


def test_what_is_unknown_is_a_dash():
    line = StatusTable().line(status(Phase.QUEUED))
    assert 'nan' not in line and 'UNKNOWN' not in line
    assert line.split()[-5:] == ['-', '-', '-', '-', '0/-/-'], line  # verdict, slack, wcet, evicted, tokens


def test_the_verdict_of_the_first_plan_holds_to_the_end():
    table = StatusTable()
    told = [(Phase.PREFILL, Verdict.UNKNOWN), (Phase.PREFILL, Verdict.FITS), (Phase.DECODE, Verdict.AT_RISK)]
    lines = [table.line(status(phase, verdict=int(verdict))) for phase, verdict in told]
    assert 'FITS' not in lines[0] and lines[1].split()[3] == 'FITS'
    assert lines[2].split()[3:5] == ['FITS', 'AT_RISK']  # the promise, and how it looks now
    done = table.line(status(Phase.DONE, verdict=int(Verdict.AT_RISK), finish_reason=int(FinishReason.EOS)))
    assert done.split()[3] == 'FITS' and 'AT_RISK' not in done


def test_a_verdict_told_while_waiting_gives_way_to_the_plan():
    table = StatusTable()
    assert table.line(status(Phase.QUEUED, verdict=int(Verdict.AT_RISK))).split()[3] == 'AT_RISK'
    assert table.line(status(Phase.PREFILL, verdict=int(Verdict.FITS))).split()[3] == 'FITS'
    assert table.line(status(Phase.DONE, verdict=int(Verdict.FITS))).split()[3] == 'FITS'


def test_a_goal_that_was_cut_at_its_deadline_and_ended_in_time_is_no_overrun():
    table = StatusTable()
    cut = dict(finish_reason=int(FinishReason.DEADLINE), response_time_s=1.9, overrun=True)
    assert 'OVERRUN' not in table.line(status(Phase.DONE, tardiness_s=0.0, **cut))
    assert 'OVERRUN by 0.250 s' in table.line(status(Phase.DONE, tardiness_s=0.25, **cut))
    assert 'OVERRUN' in table.line(status(Phase.DECODE, tardiness_s=0.1, overrun=True))  # it runs on, late


def test_codes_of_a_newer_node_are_numbers():
    line = StatusTable().line(status(Phase.DONE, finish_reason=200, error_code=7999, verdict=99))
    assert '200 7999' in line and '99' in line
    assert 'BUSY' in StatusTable().line(status(Phase.DONE, error_code=int(ErrorCode.BUSY)))
