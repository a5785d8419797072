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

"""A profile that no longer fits is told in the log at once and once; a slower machine corrects the first estimates."""
import pytest

from timebill_ros.planning.tracker import Feedback, Tracker
from timebill_ros.worker import profile_check
from timebill_ros.worker.profile_check import ProfileCheck


@pytest.fixture(autouse=True)
def load(monkeypatch):
    """The load averages of the machine, on two cores."""
    loads = [1.5, 9.0, 9.0]
    monkeypatch.setattr(profile_check.os, 'getloadavg', lambda: tuple(loads))
    monkeypatch.setattr(profile_check.os, 'cpu_count', lambda: 2)
    return loads


def check():
    return ProfileCheck('profile p.yaml of May', 'run "timebill profile" again')


@pytest.mark.parametrize('track_timing', [True, False])
def test_a_machine_half_as_fast_is_told_once_and_corrects_the_first_estimates(track_timing, caplog):
    tracker, watch = Tracker(track_timing=track_timing), check()
    watch.at_start(tracker, {'prefill': 2.1, 'step': 1.9, 'eviction': 9.0, 'prediction': 9.0, 'draw:top_p': 9.0})
    assert (tracker.prefill_factor, tracker.timing_factor) == ((2.1, 1.9) if track_timing else (1.0, 1.0))
    assert tracker.bounds('top_p').timing_factor == (1.9 if track_timing else 1.0), 'whatever a goal draws'
    for _ in range(20):
        watch.observe(tracker)
    told, = [record.getMessage() for record in caplog.records]
    assert told.startswith('profile p.yaml of May does not fit this machine any more: prefill takes 2.10 times and a '
                           'decode step takes 1.90 times as long as profiled.')
    assert told.endswith('If this stays so, run "timebill profile" again')
    assert ('track_timing is false' in told) != track_timing


def test_on_a_busy_machine_that_is_told_as_the_reason(load, caplog):
    load[0] = 7.25
    check().at_start(Tracker(), {'step': 1.9})
    assert 'does not fit this machine as busy as it is (a load of 7.2 on 2 cores): a decode step' in caplog.text


def test_a_machine_as_profiled_changes_nothing_and_is_not_worth_a_word(caplog):
    tracker, watch = Tracker(), check()
    for ratios in ({}, {'prefill': 0.9, 'step': 1.3}, {'eviction': 7.0}):
        watch.at_start(tracker, ratios)
    watch.observe(tracker)
    assert (tracker.prefill_factor, tracker.timing_factor) == (1.0, 1.0) and not caplog.records


def test_a_quicker_machine_is_told_and_believed_only_by_goals(caplog):
    tracker, watch = Tracker(), check()
    watch.at_start(tracker, {'prefill': 1.0, 'step': 0.4})
    assert tracker.timing_factor == 1.0 and 'a decode step takes 0.40 times' in caplog.text


def test_a_change_while_the_worker_runs_is_told_once(caplog):
    tracker, watch = Tracker(), check()
    watch.at_start(tracker, {'prefill': 1.0, 'step': 1.0})
    for _ in range(20):
        tracker.observe(Feedback(generated_tokens=10, ended=True, prefill_s=0.1, prefill_profiled_s=0.1, decode_s=2.0,
                                 decode_profiled_s=1.0))
        watch.observe(tracker)
    told, = [record.getMessage() for record in caplog.records]
    assert 'a decode step takes 2.00 times as long' in told and 'prefill takes' not in told
