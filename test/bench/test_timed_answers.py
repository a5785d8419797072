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

"""Answers recorded with the time of every token, and what a deadline leaves of them."""
import pytest
from mock_model import TIMES, FakeClock, MockModel

from timebill_ros.bench.timed_answers import methods_of, record, score_of_cut
from timebill_ros.codes import Strategy
from timebill_ros.tasks.scored_task import ScoredTask

OPTIONS = {'chunk_tokens': 100, 'max_eviction_ratio': 0.95}
TASK = ScoredTask('1', 'family', [{'role': 'user', 'content': 'x' * 200}], 50, lambda text: {'score': len(text) / 10})


@pytest.fixture
def model():
    return MockModel(FakeClock(), b'abcdefghij')


def plain(model, task):
    return record(model, task, {'vanilla': ('float32', 0.0)}, clock=model.clock, **OPTIONS)['vanilla']


@pytest.mark.parametrize(('method', 'kept'), [('vanilla', 200), ('fixed_50', 100), ('fixed_95', 10)])
def test_every_token_has_the_time_at_which_it_was_there(model, method, kept):
    answer = record(model, TASK, {method: methods_of(model)[method]}, clock=model.clock, **OPTIONS)[method]
    assert answer.n_x == 200 and bytes(answer.ids[:-1]) == b'abcdefghij' and answer.ids[-1] == 256
    first = TIMES.prefill(200) + (TIMES.eviction(200) if kept < 200 else 0.0)
    expected = [first + sum(TIMES.step(kept + i) for i in range(n)) for n in range(11)]
    assert answer.at_s == pytest.approx(expected, abs=2e-6) and answer.unhurried_s == answer.at_s[-1]


def test_several_methods_read_the_prompt_once_and_have_the_times_that_each_has_alone(model):
    methods = methods_of(model, (0.5, 0.95))
    together = record(model, TASK, methods, clock=model.clock, **OPTIONS)
    assert list(together) == ['vanilla', 'fixed_50', 'fixed_95']
    assert model.calls.count('chunk') == 2 and model.calls.count('restore') == 3
    for name, method in methods.items():
        other = MockModel(FakeClock(), b'abcdefghij')
        alone = record(other, TASK, {name: method}, clock=other.clock, **OPTIONS)
        assert together[name].ids == alone[name].ids and together[name].n_x == alone[name].n_x
        assert together[name].at_s == pytest.approx(alone[name].at_s, abs=2e-6)


def test_other_weights_are_a_method_and_the_models_own_come_back():
    used = []

    class Two(MockModel):
        variants = {'float32': None, 'int8': None}

        def use_variant(self, name):
            used.append(name)

    model = Two(FakeClock(), b'a')
    assert methods_of(model) == {'vanilla': ('float32', 0.0), 'fixed_50': ('float32', 0.5),
                                 'fixed_95': ('float32', 0.95), 'int8': ('int8', 0.0)}
    record(model, TASK, {'int8': ('int8', 0.0)}, **OPTIONS)
    assert used == ['int8', 'float32']


def test_a_model_that_cannot_evict_has_no_method_that_does(model):
    model.supports_eviction = False
    assert methods_of(model) == {'vanilla': ('float32', 0.0)}


def test_a_deadline_cuts(model):
    answer = plain(model, TASK)
    for n in range(12):
        seconds = answer.at_s[n - 1] if n else answer.at_s[0] - 1e-5
        assert answer.cut(seconds) == min(n, 11) if n < 12 else 11
        wanted = min(n, 10) / 10  # the last token is the end
        assert score_of_cut(model, TASK, answer, seconds, Strategy.TRUNCATE) == wanted
        assert score_of_cut(model, TASK, answer, seconds, Strategy.KILL) == (1.0 if n == 11 else 0.0)


def test_an_answer_at_its_own_limit_has_ended(model):
    task = ScoredTask('1', 'family', TASK.messages, 4, TASK.scores)
    answer = plain(model, task)
    assert bytes(answer.ids) == b'abcd' and len(answer.at_s) == 4
    assert score_of_cut(model, task, answer, answer.unhurried_s, Strategy.KILL) == 0.4
