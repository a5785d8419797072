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

"""What the demonstration asks in English, and how answers are scored."""
import pytest

from timebill_ros.cli.demo_requests import DemoRequest, kept, observation_log, requests, score
from timebill_ros.codes import Strategy


def test_what_a_right_answer_must_hold_stands_in_the_log_that_is_asked_about():
    long = [request for request in requests() if request.is_long]
    assert {request.strategy for request in long} == {Strategy.TRUNCATE, Strategy.KILL}
    for request in long:
        assert request.content.count(request.answers[0]) == 1 and request.answers[0] not in request.question
        assert '?' in request.question and len(request.content.split()) > 200


def test_labels_are_apart_and_the_log_is_the_same_every_time():
    assert len({request.label for request in requests()}) == len(requests()) >= 6
    assert observation_log(3, 'It rained.') == observation_log(3, 'It rained.') != observation_log(4, 'It rained.')


@pytest.mark.parametrize(('text', 'share'), [
    ('', 0.0), ('Wash', 0.25), ('Wash the dishes', 0.75), ('Wash the dishes first.', 1.0), ('Wipe the dishes', 0.0),
    ('Wash the dishes first. And then', 1.0), ('Wash the floor first.', 0.5)])
def test_the_share_of_words_that_an_answer_begins_with(text, share):
    assert kept('Wash the dishes first.', text) == share
    assert score(DemoRequest('steps', 'How?'), 'Wash the dishes first.', text) == share


def test_where_answers_are_known_one_of_them_must_occur():
    request = DemoRequest('fact', 'Where?', ('Paris', 'in France'))
    assert score(request, 'anything', 'It is PARIS.') == 1.0 and score(request, 'anything', 'It is') == 0.0


def test_nothing_is_kept_of_no_answer():
    assert kept('', 'text') == 0.0
