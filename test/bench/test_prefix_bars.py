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

"""The bars of the bench of reused prompts: each is met just where its value says so."""
import pytest

from timebill_ros.bench.prefix_bars import bars

CASE = {'tokens': 1000, 'new': 60, 'bar': 6.5, 'evicted_bar': 5.0, 'quicker': 6.5, 'evicted_quicker': 5.0,
        'against_before': 1.05, 'same_logits': 4, 'compared': 4, 'seconds': {'reused': 0.2},
        'llama': [{'precision': 'F16', 'reused_s': 0.3}, {'precision': 'Q8_0', 'reused_s': 0.21}]}
GOALS = {'same_texts': 3, 'compared': 3, 'errors': []}
PAUSES = {'rounds': 5, 'long_on_time': 5, 'short_on_time': 10, 'short_goals': 10, 'same_texts': 5}
PROMISES = {'promised': 100, 'missed_share': 0.09, 'interval': [0.05, 0.16], 'aimed_at': 0.05}
ALL = {'cases': [CASE], 'goals': [GOALS, GOALS], 'pauses': PAUSES, 'promises': PROMISES}


def test_all_are_met():
    found = bars(ALL)
    assert len(found) == 9 and all(row['met'] for row in found), found
    assert [row['value'] for row in found[:3]] == [6.5, 5.0, 1.05]


@pytest.mark.parametrize(('part', 'changed', 'index'), [
    ('cases', {'quicker': 6.4}, 0), ('cases', {'evicted_quicker': 4.9}, 1), ('cases', {'against_before': 1.06}, 2),
    ('cases', {'seconds': {'reused': 0.21}}, 3), ('cases', {'same_logits': 3}, 4), ('goals', {'same_texts': 2}, 5),
    ('goals', {'errors': ['a sentence']}, 5), ('pauses', {'long_on_time': 4}, 6), ('pauses', {'short_on_time': 9}, 6),
    ('pauses', {'same_texts': 4}, 7), ('promises', {'interval': [0.051, 0.2]}, 8)])
def test_one_is_missed(part, changed, index):
    now = ALL[part]
    now = {**now, **changed} if isinstance(now, dict) else [*now[:-1], {**now[-1], **changed}]
    assert [i for i, row in enumerate(bars({**ALL, part: now})) if not row['met']] == [index]


def test_what_was_not_measured_has_no_bar():
    assert bars({}) == [] == bars({'pauses': None, 'promises': {**PROMISES, 'promised': 0}})
    short = {**CASE, 'tokens': 500, 'evicted_bar': 0.0}
    del short['evicted_quicker']
    assert len(bars({'cases': [short]})) == 3 and len(bars({'cases': [{**CASE, 'llama': []}]})) == 4
