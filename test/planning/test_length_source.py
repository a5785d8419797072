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

"""Which of the ways to expect a length is taken, and what it is asked and told."""
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
from mock_model import TIMES, FakeClock, MockPredictions

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.observed_lengths import ObservedLengths
from timebill_ros.length.state_learner import StatePrediction
from timebill_ros.planning.length_source import LengthSource

N_X, N_GOAL = 100, 64


class States:
    """Predicts 7 tokens from any state."""

    def __init__(self, by_head=True, error=None, *, is_sure=True):
        self.by_head, self.error, self.is_sure, self.seen = by_head, error, is_sure, []

    def predict(self, state, marginal):
        if self.error:
            raise self.error
        if not np.isfinite(state).all():
            return None
        cdfs = (np.ones(3), np.ones(3)) if self.by_head is not None else None
        return StatePrediction(LengthDistribution.point(7), state, 1, cdfs, bool(self.by_head))

    def observe(self, prediction, n, *, whole):
        if self.error:
            raise self.error
        self.seen.append((prediction.state.tolist(), n, whole))


def expect(source, **options):
    future = source.start('a prompt', N_X, TIMES)
    return source.expected(future, options.pop('observed', ObservedLengths()), N_X, N_GOAL, **options)


def test_with_nothing_that_reads_prompts_lengths_are_those_of_earlier_goals():
    observed = ObservedLengths()
    found = expect(LengthSource(), observed=observed)
    assert (found.distribution.median(), found.known, found.prediction) == (N_GOAL // 2, False, None)
    for _ in range(20):
        observed.observe(N_X, N_GOAL, 9, whole=True)
    found = expect(LengthSource(), observed=observed)
    assert (found.distribution.median(), found.known, found.prediction) == (9, True, None)


@pytest.mark.parametrize(('options', 'median', 'predicted'), [
    ({'length': 20}, 20, True), ({'late': True}, 50, False), ({'error': RuntimeError('broken')}, 50, False)])
def test_a_predictor_that_is_late_or_fails_is_replaced_by_its_marginal(options, median, predicted):
    source = LengthSource(MockPredictions(FakeClock(), **options), wait_s=0.01)
    found = expect(source)
    assert (found.distribution.median(), found.prediction is not None, found.known) == (median, predicted, True)


def test_a_state_that_was_read_predicts_and_is_told_how_long_the_answer_was():
    states = States()
    source = LengthSource(states=states, clock=FakeClock())
    found = expect(source, state=np.array([1.0, 2.0]))
    assert found.distribution.median() == 7 and found.known and found.prediction.seconds == 0
    assert found.prediction.hidden_s(0.0, 999.0) == 0.0, 'it comes after prefill'
    source.observe(found, 12, whole=False)
    assert states.seen == [([1.0, 2.0], 12, False)]


def test_where_no_prompt_was_read_earlier_goals_stand_in():
    source = LengthSource(states=States())
    found = expect(source)
    assert found.by_state is None and found.distribution.median() == N_GOAL // 2
    source.observe(found, 12, whole=True)
    assert source.states.seen == []


@pytest.mark.parametrize(('by_head', 'is_sure', 'known', 'timed'), [
    (True, True, True, True), (True, False, False, True), (False, True, False, True), (None, True, False, False)])
def test_a_length_is_known_where_a_head_was_asked_that_has_been_compared_with_answers(by_head, is_sure, known, timed):
    """Not where the marginal was planned with, which may be a mere prior; before there is a head, nothing is timed."""
    found = expect(LengthSource(states=States(by_head, is_sure=is_sure)), state=np.ones(2))
    assert found.known == known and (found.prediction is not None) == timed


@pytest.mark.parametrize('broken', [True, False])
def test_a_state_that_cannot_be_used_costs_no_goal(broken, caplog):
    source = LengthSource(states=States(error=RuntimeError('a bug') if broken else None))
    with caplog.at_level(logging.ERROR):
        found = expect(source, state=np.array([math.nan if not broken else 1.0]))
    assert found.distribution.median() == N_GOAL // 2 and found.by_state is None
    assert ('could not be predicted' in caplog.text) == broken


def test_an_answer_does_not_suffer_where_its_length_cannot_be_learned(caplog):
    source = LengthSource(states=States())
    found = expect(source, state=np.ones(2))
    source.states.error = RuntimeError('a bug')
    with caplog.at_level(logging.ERROR):
        source.observe(found, 3, whole=True)
    assert 'not learned' in caplog.text


def test_without_states_there_is_nothing_to_learn_to_save_or_to_forget():
    source = LengthSource()
    source.learn()
    source.save(ends=True)
    source.forget()


# -- while an answer is decoded ---------------------------------------------------------------------------------------

class Remaining:
    """What learns from looks at answers."""

    def of_answer(self, *given):
        self.given = given
        return self

    def observe(self, n, *, whole):
        self.seen = n, whole


def test_an_answer_is_looked_at_with_its_prompts_state_and_what_was_expected_of_it():
    states, model = States(), SimpleNamespace(answer_state=SimpleNamespace(read=lambda: 1))
    states.remaining = Remaining()
    source = LengthSource(states=states)
    found = expect(source, state=np.array([1.0, 2.0]))
    remaining = source.while_decoding(found, model)
    state, distribution, read = states.remaining.given
    assert state.tolist() == [1.0, 2.0] and distribution is found.distribution and read is model.answer_state.read
    source.observe(found, 12, whole=False, remaining=remaining)
    assert states.seen == [([1.0, 2.0], 12, False)] and states.remaining.seen == (12, False)


@pytest.mark.parametrize('lacks', ['learner', 'prompt', 'answer', 'all'])
def test_nothing_looks_at_an_answer_where_a_state_is_not_to_be_had(lacks):
    states = States()
    states.remaining = None if lacks == 'learner' else Remaining()
    source = LengthSource(states=None if lacks == 'all' else states)
    found = expect(source, state=None if lacks == 'prompt' else np.ones(2))
    model = SimpleNamespace(answer_state=None if lacks == 'answer' else SimpleNamespace(read=None))
    assert source.while_decoding(found, model) is None
