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

"""A start that takes long is told from one that hangs, and what it does is said in words."""
import logging

import pytest

from timebill_ros.dispatch.start_watch import StartWatch, stage_of

REPORT = {'event': 'progress', 'part': 3, 'of': 6, 'what': 'preparing decode steps: int8', 'for_s': 12.4,
          'left_s': 95.2, 'advanced': True}


def test_a_start_that_takes_longer_than_was_told_says_so():
    assert stage_of({**REPORT, 'longer': True}).endswith('(for 12 s; longer than expected, once for this model and '
                                                         'device)')


@pytest.mark.parametrize(('left_s', 'words'), [
    (95.2, 'part 3 of 6, preparing decode steps: int8 (for 12 s; about 95 s left, once for this model and device)'),
    (None, 'part 3 of 6, preparing decode steps: int8 (for 12 s)')])
def test_a_report_in_words(left_s, words):
    assert stage_of({**REPORT, 'left_s': left_s}) == words


def test_only_what_gets_on_counts(caplog):
    caplog.set_level(logging.INFO, 'timebill_ros')
    now = [100.0]
    watch = StartWatch(lambda: now[0])
    assert (watch.advanced_s, watch.stage) == (100.0, '')
    now[0] = 130.0
    watch.heard(REPORT)
    now[0] = 140.0
    watch.heard({**REPORT, 'advanced': False})
    assert watch.advanced_s == 130.0 and watch.stage == stage_of(REPORT)
    assert caplog.messages == [f'starting the inference process: {stage_of(REPORT)}'] * 2
    now[0] = 190.0
    assert watch.gives_up(60.0) == ('the worker was not ready after 90 s, and its start did not get on for 60 s '
                                    f'(worker_start_timeout_s); it was at {stage_of(REPORT)}')
    watch.begin()
    assert (watch.advanced_s, watch.stage) == (190.0, '') and watch.gives_up(60.0).endswith('(worker_start_timeout_s)')
