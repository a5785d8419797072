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

"""The token loop on a scripted model and a clock that only its steps advance: where it stops, and what it costs."""
import gc
import math

import pytest
import torch

from timebill_ros.codes import ErrorCode, FinishReason, GoalError
from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode, no_collection
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.token_chain import StepChain
from timebill_ros.request import Sampling

EOS = 0
VOCABULARY = 27  # token i is the i-th letter
START_S = 100.0  # what the clock shows when decoding starts
LETTERS = 'abcdefghijklmnopqrstuvwxyz'


class LetterTokenizer:
    def decode(self, ids, **options):
        return ''.join(LETTERS[i - 1] for i in ids if i != EOS)


class ScriptedModel:
    """Says `script` token by token; the k-th step takes `step_times[k]` seconds (the last for all that follow)."""

    eos_ids = frozenset({EOS})

    def __init__(self, script, step_times=(0.0,)):
        self.script, self.step_times = script, step_times
        self.now, self.steps, self.clock_reads = START_S, [], 0
        self.control, self.cancel_at_step = None, None

    def clock(self):
        self.clock_reads += 1
        return self.now

    def logits(self, n):
        """Return the logits after n tokens. None in the script stands for NaN."""
        said = self.script[n % len(self.script)]
        if said is None:
            return torch.full((VOCABULARY,), math.nan)
        return torch.nn.functional.one_hot(torch.tensor(said), VOCABULARY).float()

    def step(self, token, position):
        self.now += self.step_times[min(len(self.steps), len(self.step_times) - 1)]
        self.steps.append((int(token), position))
        if len(self.steps) == self.cancel_at_step:
            self.control.canceled = True
        return self.logits(len(self.steps))

    def chain(self, sampler):
        return StepChain(self.step, sampler)

    def run(self, *, budget_s=math.inf, margin_s=0.0, cap=50, cap_reason=FinishReason.LENGTH, step_s=lambda n_kv: 0.0,
            stop=(), position=10, n_kv=10, **options):
        self.control = Control(Deadline(START_S + budget_s, self.clock), margin_s, tokens=[-1] * cap)
        reason = decode(self, Sampler(Sampling(), torch.device('cpu')), self.logits(0), position=position, n_kv=n_kv,
                        cap=cap, cap_reason=cap_reason, step_s=step_s, stops=StopStrings(LetterTokenizer(), stop),
                        control=self.control, **options)
        return reason, self.control.tokens[:self.control.n_tokens]


@pytest.mark.parametrize(('script', 'options', 'reason', 'tokens'), [
    ([EOS], {}, FinishReason.EOS, [EOS]),
    ([1, 2, EOS], {}, FinishReason.EOS, [1, 2, EOS]),
    ([1, 2, EOS], {'cap': 3}, FinishReason.EOS, [1, 2, EOS]),  # its own end comes before the limit
    ([1, 2, EOS], {'cap': 2}, FinishReason.LENGTH, [1, 2]),
    ([1, 2, EOS], {'cap': 2, 'cap_reason': FinishReason.CAPPED}, FinishReason.CAPPED, [1, 2]),
    ([1], {'cap': 1}, FinishReason.LENGTH, [1]),
    ([1, 2, 3, 4], {'stop': ['c']}, FinishReason.STOP, [1, 2, 3]),
    ([1, 2, 3, 4], {'stop': ['x', 'bcd']}, FinishReason.STOP, [1, 2, 3, 4]),
    ([1, 2, 3, 4], {'stop': ['c'], 'cap': 3}, FinishReason.STOP, [1, 2, 3]),
    ([1, 2, 3, EOS], {'stop': ['x']}, FinishReason.EOS, [1, 2, 3, EOS]),
    # However late it is already, token 0 is there: prefill has computed it.
    ([1, 2, 3], {'budget_s': 0.0, 'step_s': lambda n_kv: 1.0}, FinishReason.DEADLINE, [1]),
    ([1, 2, 3], {'budget_s': -5.0}, FinishReason.DEADLINE, [1]),
    ([1, EOS], {'budget_s': -5.0, 'cap': 1}, FinishReason.LENGTH, [1]),
])
def test_where_the_answer_ends(script, options, reason, tokens):
    assert ScriptedModel(script).run(**options) == (reason, tokens)


@pytest.mark.parametrize(('replan_tokens', 'looks'), [(0, []), (1, [2, 3, 4, 5, 6]), (2, [2, 4, 6]), (3, [3, 6])])
def test_the_plan_is_looked_at_again_once_a_step_has_been_measured(replan_tokens, looks):
    seen = []

    def replan(n, n_kv, pace):
        seen.append((n, n_kv, pace))
        return n_kv
    model = ScriptedModel([1], step_times=(0.5,))
    model.run(cap=7, replan_tokens=replan_tokens, replan=replan)
    assert seen == [(n, 9 + n, 0.5) for n in looks]


@pytest.mark.parametrize(('lowered', 'n'), [(20, 20), (10, 10), (4, 4), (2, 4), (60, 50)])
def test_a_revised_plan_may_lower_the_cap(lowered, n):
    model = ScriptedModel([1])

    def replan(n, n_kv, pace):
        model.control.cap = lowered
        return n_kv
    reason, tokens = model.run(replan_tokens=4, replan=replan)
    assert (reason, len(tokens)) == (FinishReason.CAPPED if lowered < 50 else FinishReason.LENGTH, n)


def test_at_a_lowered_cap_the_plan_is_looked_at_once_more():
    model, looks = ScriptedModel([1]), []

    def replan(n, n_kv, pace):
        looks.append(n)
        model.control.cap = {4: 6, 6: 50, 8: 9}.get(n, model.control.cap)
        return n_kv
    assert model.run(replan_tokens=4, replan=replan)[0] is FinishReason.CAPPED
    assert looks == [4, 6, 8, 9] and model.control.n_tokens == 9


@pytest.mark.parametrize('replan_tokens', [1, 2, 20])
def test_the_time_that_replanning_takes_is_no_step_time(replan_tokens):
    """Steps take half a second and replanning ten: the guard and the pace go by half a second."""
    model, paces = ScriptedModel([1], step_times=(0.5,)), []

    def replan(n, n_kv, pace):
        paces.append(pace)
        model.now += 10.0
        return n_kv
    looks = {1: 29, 2: 15, 20: 1}[replan_tokens]
    reason, tokens = model.run(cap=50, budget_s=14.9 + 10.0 * looks, replan_tokens=replan_tokens, replan=replan)
    assert (reason, len(tokens), paces) == (FinishReason.DEADLINE, 30, [0.5] * looks)


def test_the_pace_after_an_eviction_is_that_of_steps_over_the_smaller_cache():
    model, paces = ScriptedModel([1], step_times=(2.0,) * 20 + (0.5,)), []

    def replan(n, n_kv, pace):
        paces.append((n, pace))
        return n_kv - 5 if n == 21 else n_kv
    model.run(cap=45, replan_tokens=1, replan=replan)
    assert dict(paces) == {**{n: 2.0 for n in range(2, 22)}, **{n: 0.5 for n in range(22, 45)}}


@pytest.mark.parametrize(('budget_s', 'margin_s', 'n'), [
    (1.0, 0.0, 9),  # 8 steps of 1/8 s fit, and token 0 costs none
    (1.0, 0.125, 8),
    (0.99, 0.0, 8),
    (0.13, 0.0, 2),
    (0.12, 0.0, 1),
    (1.0, 2.0, 1),
])
def test_stops_before_a_step_that_would_end_too_late(budget_s, margin_s, n):
    model = ScriptedModel([1, 2, 3], [0.125])
    reason, tokens = model.run(budget_s=budget_s, margin_s=margin_s, step_s=lambda n_kv: 0.125)
    assert (reason, len(tokens)) == (FinishReason.DEADLINE, n)
    assert model.now <= START_S + max(budget_s - margin_s, 0.0)


def test_a_step_over_a_larger_cache_is_expected_to_take_longer():
    """The estimate is asked for the cache as it is: n_kv entries before the first step, one more after each."""
    asked = []
    ScriptedModel([1]).run(cap=4, n_kv=7, step_s=lambda n_kv: asked.append(n_kv) or 0.0)
    assert asked == [7, 8, 9]


def test_positions_go_on_from_the_prompt_whatever_was_evicted():
    model = ScriptedModel([1, 2, 3, EOS])
    model.run(position=1000, n_kv=50)
    assert model.steps == [(1, 1000), (2, 1001), (3, 1002)]


@pytest.mark.parametrize('step', [1, 2, 7])
def test_a_cancel_ends_it_within_one_token(step):
    model = ScriptedModel([1])
    model.cancel_at_step = step
    reason, tokens = model.run()
    assert reason is FinishReason.CANCELED
    assert len(tokens) == step + 1 and len(model.steps) == step


@pytest.mark.parametrize('n', [0, 1, 5])
def test_nan_ends_it_with_the_token_named(n):
    model = ScriptedModel([1] * n + [None])
    with pytest.raises(GoalError, match=f'NaN .*at token {n}$') as caught:
        model.run()
    assert caught.value.code is ErrorCode.UNKNOWN
    assert model.control.tokens[:model.control.n_tokens] == [1] * n


@pytest.mark.parametrize('n', [1, 10, 40])
def test_the_clock_is_read_once_per_token(n):
    model = ScriptedModel([1])
    model.run(cap=n + 1)
    assert model.clock_reads <= n + 1  # and at most once before the first


def test_a_moved_deadline_counts_at_once():
    """Simulated time moves deadlines while a request runs."""
    model = ScriptedModel([1], [0.125])
    moves = {3: START_S + 0.5}

    def step_s(n_kv):
        model.control.deadline.at_s = moves.get(n_kv, model.control.deadline.at_s)
        return 0.125

    reason, tokens = model.run(n_kv=0, step_s=step_s)
    # The new deadline is known when the fifth token is due; by then 3/8 s have passed and one more step fits.
    assert (reason, len(tokens)) == (FinishReason.DEADLINE, 5)


@pytest.mark.parametrize(('step_times', 'latest_s'), [
    ([0.4], 0.0),  # from the start
    ([0.01] * 5 + [0.05], 0.0),  # five times as slow from the sixth step on
    ([0.01 * 1.05 ** i for i in range(100)], 0.0),  # slower and slower
    ([0.01] * 99 + [0.2], 0.2),  # one slow step that nothing announced is late by no more than itself
])
def test_a_machine_slower_than_its_profile_is_noticed(step_times, latest_s):
    model = ScriptedModel([1], step_times)
    reason, _ = model.run(budget_s=1.0, cap=1000, step_s=lambda n_kv: 0.01)
    assert reason is FinishReason.DEADLINE
    assert model.now <= START_S + 1.0 + latest_s


def test_a_machine_that_seems_faster_is_not_trusted():
    """The profile is the lower bound: the loop stops as early as on a machine that keeps to it."""
    model = ScriptedModel([1], [0.001])
    model.run(budget_s=0.1, cap=1000, step_s=lambda n_kv: 0.05)
    assert model.now == pytest.approx(START_S + 0.05, abs=0.0011)


def test_one_slow_step_is_forgiven():
    """After a hiccup the pace comes back to the profile's, and the time left is used."""
    model = ScriptedModel([1], [0.01, 0.01, 0.3, 0.01])
    model.run(budget_s=1.0, cap=1000, step_s=lambda n_kv: 0.01)
    assert model.now > START_S + 0.95


@pytest.mark.parametrize('before', [True, False])
def test_nothing_is_collected_inside_and_afterwards_it_is_as_before(before):
    try:
        (gc.enable if before else gc.disable)()
        with pytest.raises(RuntimeError), no_collection():
            assert not gc.isenabled()
            with no_collection():
                pass
            assert not gc.isenabled()
            raise RuntimeError
        assert gc.isenabled() is before
    finally:
        gc.enable()


class ForcingChain(StepChain):
    """Knows the tokens after each of `forces` beforehand, {token: the tokens that follow it}."""

    def __init__(self, model, sampler, forces):
        super().__init__(model.step, sampler)
        self._model, self._forces, self._known, self._behind, self.widths = model, forces, [], [], []

    @property
    def forced(self):
        return len(self._known)

    @property
    def width(self):
        return len(self._behind)

    def launch(self, position):
        self.widths.append(self.width)
        self._model.now += 0.25 * (self.width - 1)
        super().launch(position)

    def read(self):
        if self._known:
            self._behind.append(self._known.pop(0))
            return self._behind[-1]
        token = super().read()
        self._known, self._behind = list(self._forces.get(token, ())), [token]
        return token


def forcing(forces, script, step_times=(1.0,)):
    model = ScriptedModel(script, step_times)
    chains = []
    model.chain = lambda sampler: chains.append(ForcingChain(model, sampler, forces)) or chains[0]
    return model, chains


def test_forced_tokens_come_without_steps_and_go_through_one_together():
    model, chains = forcing({2: [3, 4, 5]}, [1, 2, 6, EOS])
    seen = []
    assert model.run(step_s=lambda n_kv: seen.append(n_kv) or 0.0) == (FinishReason.EOS, [1, 2, 3, 4, 5, 6, EOS])
    assert chains[0].widths == [1, 4, 1]
    assert [position for _, position in model.steps] == [10, 11, 15]
    assert seen == [10, 11, 15]  # entries in the cache
    assert model.clock_reads == 3, 'the clock is read where a step may start'


def test_forced_tokens_end_an_answer_like_others():
    assert forcing({1: [2, EOS]}, [1])[0].run() == (FinishReason.EOS, [1, 2, EOS])
    assert forcing({1: [2, 3, 4]}, [1])[0].run(cap=3) == (FinishReason.LENGTH, [1, 2, 3])
    assert forcing({1: [2, 3, 4]}, [1])[0].run(stop=['bc']) == (FinishReason.STOP, [1, 2, 3])


@pytest.mark.parametrize(('more_s', 'reason', 'n'), [(0.25, FinishReason.EOS, 6), (0.7, FinishReason.DEADLINE, 4)])
def test_a_step_over_several_tokens_starts_only_where_it_fits(more_s, reason, n):
    model, _ = forcing({1: [2, 3, 4]}, [1, 5, EOS])
    assert model.run(budget_s=2.8, step_s=lambda n_kv: 1.0, more_s=lambda width: (width - 1) * more_s) == (
        reason, [1, 2, 3, 4, 5, EOS][:n])


def test_a_step_over_several_tokens_says_nothing_of_others():
    paces = []

    def replan(n, n_kv, pace):
        paces.append((n, n_kv, pace))
        return n_kv
    model, _ = forcing({1: [2, 3, 4, 5], 7: [8, 9]}, [1, 6, 7, 10, 11, 12])
    model.run(cap=13, replan_tokens=1, replan=replan)
    # Before the first step over one token there is nothing to look with.
    assert paces[0] == (9, 16, 1.0) and {pace for *_, pace in paces} == {1.0}
