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

"""Reports of a start: every few seconds, sooner where a part begins, and honest about a start that hangs."""
import json
import threading

import pytest
from mock_model import FakeClock

from timebill_ros.inference.start_progress import MODEL, STEPS, StartProgress
from timebill_ros.worker.start_report import REPORT_S, SOONER_S, StartReport


class Scripted:
    """An Activity that says what the test says."""

    moves = False

    def moved(self):
        return self.moves


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def start(clock):
    return StartProgress(clock)


def report_of(start, clock, sent, limit_s=300.0):
    return StartReport(sent.append, start, limit_s, activity=Scripted(), clock=clock)


def look(report, clock, seconds):
    for _ in range(round(seconds / 0.5)):
        clock.now += 0.5
        report.look()


def test_a_report_comes_every_few_seconds_and_sooner_where_a_part_begins(start, clock):
    sent = []
    report = report_of(start, clock, sent)
    look(report, clock, REPORT_S - 0.5)
    assert not sent, 'a quick start says nothing'
    look(report, clock, 0.5)
    assert len(sent) == 1 and sent[0]['event'] == 'progress' and sent[0]['part'] == 1
    assert json.loads(json.dumps(sent[0])) == sent[0]
    start.begin(MODEL)
    look(report, clock, SOONER_S - 0.5)
    assert len(sent) == 1
    look(report, clock, 0.5)
    assert [event['part'] for event in sent] == [1, 2]
    look(report, clock, 3 * REPORT_S)
    assert [event['part'] for event in sent] == [1, 2, 2, 2, 2]


def test_a_start_gets_on_where_its_code_says_so_or_its_process_moves(start, clock):
    sent = []
    report = report_of(start, clock, sent)

    def advanced() -> bool:
        look(report, clock, REPORT_S)
        return sent[-1]['advanced']

    assert not advanced(), 'nothing since the report was made'
    start.begin(STEPS)
    assert advanced() and not advanced()
    start.tell('compiling piece 1 of 3')
    assert advanced() and not advanced()
    report._activity.moves = True
    look(report, clock, 1.0)
    report._activity.moves = False
    assert advanced(), 'it has moved between two reports'
    assert not advanced()


@pytest.mark.parametrize(('limit_s', 'period_s'), [(300.0, REPORT_S), (6.0, 2.0), (1.0, 1 / 3)])
def test_the_limit_holds_three_reports(start, clock, limit_s, period_s):
    assert report_of(start, clock, [], limit_s).period_s == pytest.approx(period_s)


def test_a_thread_looks_inside_and_no_more_after_it(start):
    sent, told = [], threading.Event()
    with StartReport(lambda event: (sent.append(event), told.set()), start, 0.03):
        assert told.wait(30.0)
    n = len(sent)
    assert not told.clear() and not told.wait(0.1) and len(sent) == n


def test_a_report_that_fails_does_not_end_the_others(start, monkeypatch, caplog):
    told, report = threading.Event(), start.report
    monkeypatch.setattr(start, 'report', lambda: monkeypatch.setattr(start, 'report', report) or 1 / 0)
    with StartReport(lambda event: told.set(), start, 0.03):
        assert told.wait(30.0)
    assert 'cannot be told' in caplog.text
