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

"""What answers took to decode, by kinds of goals."""
import pytest

from timebill_ros.codes import Thinking
from timebill_ros.dispatch.decode_times import FEWEST, DecodeTimes
from timebill_ros.request import Request


def request(**fields):
    return Request('id', 0.0, 10.0, prompt='x', **fields)


KINDS = [{'choices': ['a', 'b']}, {'response_schema': '{}'}, {'regex': 'a+'}, {'tools': '[]'},
         {'thinking': Thinking.ON}, {'thinking': Thinking.OFF}]


def test_nothing_is_known_before_an_answer():
    times = DecodeTimes(8)
    assert (len(times), times.usual_s(request()), times.quickest_s) == (0, 0.0, 0.0)


@pytest.mark.parametrize('fields', KINDS, ids=str)
def test_a_kind_is_known_apart_once_a_few_were_seen(fields):
    times = DecodeTimes(64)
    for _ in range(20):
        times.add(request(), 2.0)
    for n in range(1, FEWEST + 1):
        times.add(request(**fields), 0.1)
        assert times.usual_s(request(**fields)) == (0.1 if n == FEWEST else 2.0)
    assert times.usual_s(request()) == 2.0 and times.quickest_s == 0.1


def test_what_a_choice_is_does_not_matter():
    times = DecodeTimes(64)
    for text in 'abc':
        times.add(request(choices=[text]), 0.5)
    times.add(request(), 3.0)
    times.add(request(), 3.0)
    assert times.usual_s(request(choices=['d'])) == 0.5 and times.usual_s(request(regex='a')) == 0.5


def test_old_answers_are_forgotten_by_kind():
    times = DecodeTimes(4)
    for seconds in (1.0, 9.0, 9.0, 9.0, 9.0):
        times.add(request(), seconds)
    assert (len(times), times.usual_s(request()), times.quickest_s) == (4, 9.0, 9.0)
    for _ in range(4):
        times.add(request(choices=['a']), 1.0)
    assert times.usual_s(request()) == 9.0, 'four of its own kind are still known'
