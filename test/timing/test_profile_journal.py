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

"""Visits that were made before an interruption are kept, and only whole and recent ones are gone on with."""
import os
import time

import pytest

from timebill_ros.timing.profile_journal import LONGEST_S, ProfileJournal

POINTS = {'prefill': [[64, 0.1]], 'step': [[70, 0.01], [20, 0.005]]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'profiles' / 'case.part.json'


@pytest.fixture
def interrupted(path):
    """A journal's file as an interruption leaves it: two visits of 64 tokens and one of 128."""
    journal = ProfileJournal(path)
    for n, seconds in ((64, 0.5), (128, 1.0), (64, 0.6)):
        journal.add(n, POINTS, seconds)
    return path


def test_visits_of_a_length_come_back_once_in_their_order(interrupted):
    journal = ProfileJournal(interrupted)
    assert journal.n_found == 3
    assert [journal.take(64), journal.take(64), journal.take(64)] == [(POINTS, 0.5), (POINTS, 0.6), None]
    assert journal.take(32) is None and journal.take(128) == (POINTS, 1.0)


def test_a_second_interruption_loses_nothing(interrupted):
    journal = ProfileJournal(interrupted)
    journal.take(64)
    journal.add(256, POINTS, 2.0)  # the visits of 64 and 128 tokens are still to be asked for
    again = ProfileJournal(interrupted)
    assert again.n_found == 4
    assert [again.take(n) for n in (64, 64, 128, 256)] == [(POINTS, s) for s in (0.5, 0.6, 1.0, 2.0)]


def test_a_measurement_that_is_over_leaves_no_file(interrupted):
    ProfileJournal(interrupted).close()
    assert not interrupted.exists() and ProfileJournal(interrupted).n_found == 0


@pytest.mark.parametrize('content', [
    '', '{', '[]', '{"visits": 3}', '{"visits": [3]}', '{"visits": [{"n": 64, "seconds": 1.0, "points": {}}]}',
    '{"visits": [{"n": 64, "seconds": 0, "points": {"prefill": [[64, 1.0]]}}]}',
    '{"visits": [{"n": 64, "seconds": 1.0, "points": {"prefill": [[64]]}}]}',
    '{"visits": [{"n": 64, "seconds": 1.0, "points": {"prefill": [[64, 1.0]], "step": [[64, 0.0]]}}]}',
    '{"visits": [{"n": 64, "seconds": 1.0, "points": {"prefill": [[64, NaN]]}}]}',
    '{"visits": [{"n": 64, "seconds": 1.0, "points": {"prefill": [[64, 1.0]], "step": []}}]}',
    '{"visits": [{"n": Infinity, "seconds": 1.0, "points": {"prefill": [[64, 1.0]]}}]}', '[' * 5000])
def test_a_file_that_cannot_be_used_is_ignored(interrupted, content):
    interrupted.write_text(content)
    journal = ProfileJournal(interrupted)
    assert journal.n_found == 0 and journal.take(64) is None


def test_visits_of_long_ago_are_not_gone_on_with(interrupted):
    then = time.time() - LONGEST_S - 1
    os.utime(interrupted, (then, then))
    assert ProfileJournal(interrupted).n_found == 0


def test_a_disk_that_takes_nothing_is_no_failure(tmp_path):
    (tmp_path / 'file').write_text('')
    journal = ProfileJournal(tmp_path / 'file' / 'case.part.json')
    journal.add(64, POINTS, 0.5)
    journal.add(64, POINTS, 0.5)
    journal.close()


def test_without_a_path_nothing_is_kept():
    journal = ProfileJournal(None)
    journal.add(64, POINTS, 0.5)
    assert journal.take(64) is None
    journal.close()
