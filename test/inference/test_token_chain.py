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

"""Steps started ahead: the same answers as without, whatever ends them, and a device that need not wait."""
from __future__ import annotations

import math

import pytest
import torch
from test_decode import EOS, START_S, ScriptedModel

from timebill_ros.codes import FinishReason, GoalError
from timebill_ros.inference.sampling import NOT_A_TOKEN, Sampler
from timebill_ros.inference.token_chain import RING, Arrivals, PassedChain, StepChain, TokenChain
from timebill_ros.request import Sampling

CPU = torch.device('cpu')


class Delayed(Arrivals):
    """Tokens of a device that works on its own: reading one makes the clock show when its step is over."""

    def __init__(self, model):
        super().__init__(CPU)
        self.model = model

    def read(self):
        self.model.now = max(self.model.now, self.model.ends.pop(0))
        return super().read()


class AheadModel(ScriptedModel):
    """A scripted model whose steps return at once, and are over when the device has done them one after the other."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ends = [START_S]
        self.waiting = []  # steps that have not been read, after each launch
        self.latest = START_S  # when the device is done with all steps

    def step(self, token, position):
        launched_at, self.now = self.now, max(self.now, self.ends[-1] if self.ends else self.now)
        logits = super().step(token.clamp(min=0), position)
        self.ends.append(self.now)
        self.latest = self.now
        self.now = launched_at
        self.waiting.append(len(self.ends))
        return logits

    def chain(self, sampler):
        return StepChain(self.step, sampler, Delayed(self))


def replanner(evictions):
    """Evict 3 of n_kv entries at the looks after so many tokens."""
    def replan(n, n_kv, pace):
        return n_kv - 3 if n in evictions else n_kv
    return replan


CASES = [
    dict(script=[1, 2, EOS]),
    dict(script=[EOS]),
    dict(script=[1, 2, 3, 4], stop=['c']),
    dict(script=[1, 2, 3, 4], stop=['x', 'bcd']),
    dict(script=[1, 2, 3], cap=1),
    dict(script=[1, 2, 3], cap=2),
    dict(script=[1, 2, 3], cap=17, cap_reason=FinishReason.CAPPED),
    *(dict(script=[1, 2, 3], budget_s=budget_s, margin_s=margin_s, step_s=lambda n_kv: 0.125)
      for budget_s in (-1.0, 0.0, 0.12, 0.13, 0.25, 0.26, 0.99, 1.0) for margin_s in (0.0, 0.125)),
    *(dict(script=[1, 2, 3], cap=20, replan_tokens=k, replan=replanner({2, 4, 9, 10})) for k in (1, 2, 3, 7)),
    dict(script=[1, 2, 3], cap=40, budget_s=2.3, replan_tokens=4, replan=replanner({8}), step_s=lambda n_kv: n_kv / 99),
]


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('step_times', [(0.125,), (0.125, 0.125, 0.5, 0.0)])
def test_answers_are_those_of_one_step_at_a_time(case, step_times):
    case = dict(case)
    script = case.pop('script')
    plain, ahead = ScriptedModel(script, step_times), AheadModel(script, step_times)
    assert ahead.run(**case) == plain.run(**case)
    # The tokens that went in and their positions; one step more at most, which nobody reads.
    assert ahead.steps[:len(plain.steps)] == plain.steps and len(ahead.steps) - len(plain.steps) in (0, 1)


def test_a_step_is_waiting_whenever_the_device_ends_one():
    model = AheadModel([1], (0.125,))
    model.run(cap=30)
    assert model.waiting == [1, *[2] * 28] and len(model.steps) == 29, 'the last token is known to be the last'


def test_no_step_is_started_before_a_look_at_the_plan():
    """The plan may evict, and the next step reads what is left."""
    model, seen = AheadModel([1], (0.125,)), []
    model.run(cap=12, replan_tokens=4, replan=lambda n, n_kv, pace: seen.append((n, len(model.steps))) or n_kv)
    assert seen == [(4, 3), (8, 7)]


def test_two_steps_must_fit_the_time_left():
    """Nothing is started ahead that would end after the deadline."""
    model = AheadModel([1], (0.125,))
    reason, tokens = model.run(budget_s=1.0, step_s=lambda n_kv: 0.125)
    assert (reason, len(tokens), len(model.steps)) == (FinishReason.DEADLINE, 9, 8)
    assert model.latest <= START_S + 1.0


def test_a_device_that_slows_down_ends_the_answer_with_a_step_on_its_way():
    """The guard takes the new pace; the step that was started ahead is not waited for."""
    ahead, plain = (kind([1], (0.125, 0.125, 0.125, 0.9, 0.125)) for kind in (AheadModel, ScriptedModel))
    reason, tokens = ahead.run(budget_s=1.4, step_s=lambda n_kv: 0.125)
    assert (reason, len(tokens)) == (FinishReason.DEADLINE, 5) and ahead.now < START_S + 1.4 <= ahead.latest
    assert plain.run(budget_s=1.4, step_s=lambda n_kv: 0.125) == (reason, tokens)
    assert len(ahead.steps) == len(plain.steps) + 1


def test_a_cancel_ends_it_at_the_next_token():
    model = AheadModel([1], (0.125,))
    model.cancel_at_step = 5
    reason, tokens = model.run()
    assert reason is FinishReason.CANCELED and len(tokens) == 5


@pytest.mark.parametrize('n', [0, 1, 5])
def test_nan_ends_it_with_the_token_named(n):
    model = AheadModel([1] * n + [None] + [1] * 9)
    with pytest.raises(GoalError, match=f'at token {n}$'):
        model.run()
    assert model.control.tokens[:model.control.n_tokens] == [1] * n


@pytest.mark.parametrize('waits', [False, True])
def test_nothing_is_started_ahead_where_a_draw_needs_the_token_before(waits, monkeypatch):
    monkeypatch.setattr(Sampler, 'waits_for_host', waits)
    model = AheadModel([1], (0.125,))
    model.run(cap=9)
    assert max(model.waiting) == (1 if waits else 2)


def test_draws_by_chance_are_the_same_ahead():
    def tokens(arrivals):
        logits = torch.arange(12.0)
        sampler = Sampler(Sampling(temperature=2.0, seed=9), CPU)
        chain = StepChain(lambda token, position: logits.roll(int(token)), sampler, arrivals)
        chain.start(logits)
        found, launched = [], 1
        for i in range(40):
            while launched < i + 2 + chain.ahead:
                chain.launch(launched)
                launched += 1
            found.append(chain.read())
        return found

    # Without arrivals the token is read before the next step.
    plain = StepChain(lambda token, position: torch.arange(12.0).roll(int(token)),
                      Sampler(Sampling(temperature=2.0, seed=9), CPU))
    plain.start(torch.arange(12.0))
    expected = []
    for i in range(40):
        expected.append(plain.read())
        plain.launch(i + 1)
    assert not plain.ahead and len(set(expected)) > 3
    assert tokens(Arrivals(CPU)) == expected


def test_tokens_arrive_in_their_order_and_a_new_row_forgets_the_one_before():
    arrivals = Arrivals(CPU)
    for start in (0, 100):
        arrivals.restart()
        for token in range(start, start + 3 * RING):
            arrivals.receive(torch.tensor(token))
            if token > start:
                assert arrivals.read() == token - 1


def test_a_token_that_is_none_is_told_as_it_is():
    chain = StepChain(lambda token, position: torch.zeros(3), Sampler(Sampling(), CPU), Arrivals(CPU))
    chain.start(torch.full((3,), math.nan))
    chain.launch(0)
    assert [chain.read(), chain.read()] == [NOT_A_TOKEN, 0]


def test_a_chain_around_another_passes_everything_on():
    """Also what was saved: a request that gives way is put aside with it."""
    told = []

    class Inner(TokenChain):
        ahead, forced, width = True, 2, 3
        logits = torch.ones(4)

        def start(self, logits):
            told.append(('start', logits))

        def launch(self, position):
            told.append(('launch', position))

        def read(self):
            return 7

        def save(self):
            return 'saved'

        def restore(self, saved):
            told.append(('restore', saved))

    inner = Inner()
    chain = PassedChain(inner)
    assert (chain.ahead, chain.forced, chain.width) == (True, 2, 3) and chain.logits is inner.logits
    chain.start('logits')
    chain.launch(5)
    chain.restore(chain.save())
    assert chain.read() == 7 and told == [('start', 'logits'), ('launch', 5), ('restore', 'saved')]
    inner.forced = inner.width = 1
    assert (chain.forced, chain.width) == (1, 1), 'as they are now'
