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

"""How programs tell the end of a goal: codes by name, the promise, and JSON that other programs can read."""
import json
import math

import pytest

from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode, FinishReason, Verdict, name_of
from timebill_ros.monitoring.ending import as_json, promise_of, sentence
from timebill_ros.msg import Timing


def result(verdict=Verdict.FITS, finish=FinishReason.EOS, *, error=ErrorCode.NONE, tardiness_s=0.0):
    timing = Timing(verdict=int(verdict), tardiness_s=tardiness_s, eviction_ratio=math.nan, generated_tokens=7)
    return Generate.Result(text='here', error_code=int(error), finish_reason=int(finish), timing=timing)


@pytest.mark.parametrize(('ended', 'promise'), [
    (result(), 'kept'),
    (result(Verdict.FITS_WITH_EVICTION, FinishReason.STOP), 'kept'),
    (result(finish=FinishReason.LENGTH), 'kept'),
    (result(finish=FinishReason.LENGTH, error=ErrorCode.INVALID_GOAL), 'kept'),  # too short a limit for any text
    (result(finish=FinishReason.DEADLINE), 'missed'),
    (result(finish=FinishReason.CAPPED), 'missed'),
    (result(tardiness_s=0.1), 'missed'),
    (result(finish=FinishReason.ERROR, error=ErrorCode.WORKER_LOST), 'missed'),
    (result(finish=FinishReason.CANCELED, error=ErrorCode.CANCELED), 'none'),
    (result(Verdict.AT_RISK), 'none'),
    (result(Verdict.UNKNOWN, FinishReason.UNKNOWN, error=ErrorCode.INVALID_GOAL, tardiness_s=math.nan), 'none'),
])
def test_a_promise_is_kept_by_a_natural_end_in_time(ended, promise):
    assert promise_of(ended) == promise


def test_the_sentence_names_verdict_finish_reason_and_promise():
    text = sentence(result(finish=FinishReason.DEADLINE), 1.5, 2.0)
    assert '1.500 s of 2.000 s, 7 tokens' in text
    assert 'verdict FITS, finish DEADLINE, promise MISSED' in text


def test_the_sentence_names_the_seed_and_what_was_left_out_of_a_long_conversation():
    ended = result()
    assert 'seed' not in sentence(ended, 1.5, 2.0) and 'left out' not in sentence(ended, 1.5, 2.0)
    ended.timing.seed, ended.timing.dropped_messages = 2 ** 64 - 1, 4
    assert '4 messages of the history left out, seed 18446744073709551615;' in sentence(ended, 1.5, 2.0)


def test_the_sentence_and_json_tell_how_many_items_were_dropped():
    ended = result()
    assert 'dropped' not in sentence(ended, 1.5, 2.0)
    ended.dropped_items = 2
    assert ', dropped items: 2' in sentence(ended, 1.5, 2.0) and as_json(ended, 0.1, 1.5, 2.0)['dropped_items'] == 2


def test_the_sentence_and_json_tell_whose_answer_it_is():
    ended = result()
    assert 'server' not in sentence(ended, 1.5, 2.0) and as_json(ended, 0.1, 1.5, 2.0)['timing']['tier'] == 'NONE'
    ended.timing.tier = Timing.TIER_OFFBOARD
    assert '7 tokens, of the server' in sentence(ended, 1.5, 2.0)
    assert as_json(ended, 0.1, 1.5, 2.0)['timing']['tier'] == 'OFFBOARD'


def test_the_sentence_tells_that_the_goal_gave_way():
    ended = result()
    assert 'gave way' not in sentence(ended, 1.5, 2.0)
    ended.timing.preemptions, ended.timing.paused_s = 1, 0.25
    assert ', gave way to others once for 0.250 s;' in sentence(ended, 1.5, 2.0)
    ended.timing.preemptions = 3
    assert ', gave way to others 3 times for 0.250 s;' in sentence(ended, 1.5, 2.0)


@pytest.mark.parametrize('tardiness_s, says', [(0.0, False), (math.nan, False), (0.25, True)])
def test_an_answer_after_its_deadline_says_so(tardiness_s, says):
    ended = Generate.Result()
    ended.timing.tardiness_s = tardiness_s
    line = sentence(ended, 2.26, 2.0)
    assert line.startswith('[2.260 s of 2.000 s, 0.250 s after its deadline, 0 tokens' if says else
                           '[2.260 s of 2.000 s, 0 tokens')


def test_json_holds_names_and_no_nan():
    row = as_json(result(error=ErrorCode.BUSY), 0.1, 1.5, 2.0)
    read = json.loads(json.dumps(row, allow_nan=False))
    assert (read['error'], read['error_code'], read['verdict'], read['finish_reason']) == ('BUSY', 7010, 'FITS', 'EOS')
    assert read['timing']['eviction_ratio'] is None and read['timing']['generated_tokens'] == 7


def test_a_code_of_a_newer_node_is_its_number():
    assert name_of(ErrorCode, 7999) == '7999'
