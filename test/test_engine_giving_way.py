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

"""Requests that give way to others in the middle: each ends with the answer that it has when nobody interrupts it."""
import functools
import time

import pytest
import tiny_models
import torch

from timebill_ros.codes import ErrorCode, FinishReason, Strategy
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference import prefix_check
from timebill_ros.inference.asides import MOST, Asides
from timebill_ros.inference.control import Control
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore
from timebill_ros.inference.prompt_tiles import TILE
from timebill_ros.inference.steps import captured
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Request, Sampling
from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.worker.state_lengths import watch_states

N_NEW, CHUNK, BLOCKS = 24, TILE, 32


class Interrupted(Control):
    """Is asked to give way at the tokens numbered `at`, from 0, and when prefill looks for the n-th time (`at_looks`).

    `then` is called once it has given way, `on_token` with the number of each token.
    """

    def __init__(self, deadline, at=(), at_looks=(), then=lambda: None, on_token=lambda n: None):
        super().__init__(deadline)
        self.at_looks, self.n_pauses = at_looks, 0
        control = self

        class Tokens(list):
            def __setitem__(self, n, value):
                super().__setitem__(n, value)
                if isinstance(n, int):
                    on_token(n)
                    if n in at:
                        control.pausing = True

        self.tokens = Tokens()

        def on_pause():
            control.n_pauses += 1
            then()

        self.on_pause = on_pause

    def should_stop(self):
        if self.looks + 1 in self.at_looks:
            self.pausing = True
        return super().should_stop()


def as_it_is(device):
    """Stand in for CUDA graphs: what was captured is run again, into the same tensors."""
    def capture(call):
        call()  # as before a capture
        return call
    return capture


@functools.cache
def model_of(kind):
    """Load a model; behind its name may stand 'captured', for steps that are started before a token is read."""
    name, _, steps = kind.partition(' ')
    model = CausalLM(str(tiny_models.directory(name)), device='cpu', threads=1, dtype='float32')
    if steps:
        with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
            patch.setattr(captured, 'capturer', as_it_is)
            model.prefill(tiny_models.prompt_ids(20), chunk_tokens=CHUNK)
            model.steps['float32'] = captured.CapturedStep(model.steps['float32'], model.cache)
        model.use_variant('float32')
    prefix_check.use_way(model, 'tiles')  # so that what is known of a prompt changes no bit
    model.prefixes = PrefixStore(model.cache, TILE, BLOCKS)
    model.asides = Asides(model)
    return model


@pytest.fixture
def engine_of():
    """Make engines whose store is empty. Afterwards nothing is lent any more, and the store accounts for itself."""
    made = []

    def make(kind='qwen2'):
        model = model_of(kind)
        model.prefixes.clear()
        made.append(model)
        # A step takes a microsecond, so that nothing is refused and no plan evicts.
        return Engine(model, None, ExecutionTimes(a=0, b=0, c=0, p=0, q=1e-6), Tracker('fixed', k=1),
                      prefill_chunk_tokens=CHUNK)

    yield make
    for model in made:
        assert not model.prefixes._lent
        model.check()


def request(n_words=60, seed=0, budget_s=60.0, **fields):
    now = time.monotonic()
    words = ' '.join(f'w{i}' for i in tiny_models.prompt_ids(n_words, seed))
    return Request(f'goal {seed}', now, now + budget_s, prompt=words, **{'max_new_tokens': N_NEW, **fields})


def run(engine, asked, **interrupted):
    control = Interrupted(Deadline(asked.deadline_s), **interrupted)
    return engine.run(asked, control), control


def alone(engine, *asked):
    """Return the texts of requests that nobody interrupts, each from an empty store."""
    texts = []
    for one in asked:
        engine.model.prefixes.clear()
        outcome = run(engine, one)[0]
        assert outcome.error_code is ErrorCode.NONE and outcome.timing.preemptions == 0 == outcome.timing.paused_s
        texts.append(outcome.text)
    engine.model.prefixes.clear()
    return texts


OTHERS = {'greedy': {}, 'sampled': dict(sampling=Sampling(temperature=1.5, seed=7)),
          'of top_p': dict(sampling=Sampling(temperature=2.0, top_p=0.9, seed=8)),
          'penalised': dict(sampling=Sampling(temperature=1.0, seed=3, repetition_penalty=1.4))}


@pytest.mark.parametrize('kind', ['qwen2', 'gemma3', 'mistral_sliding', 'qwen2 captured'])
@pytest.mark.parametrize('drawn', OTHERS)
def test_an_answer_goes_on_where_it_stopped(engine_of, kind, drawn):
    engine = engine_of(kind)
    long, short = request(**OTHERS[drawn]), request(90, 1, max_new_tokens=9, **OTHERS[drawn])
    texts = alone(engine, long, short)
    found = []
    outcome, control = run(engine, long, at=(0, 1, 7, 12), then=lambda: found.append(run(engine, short)[0].text))
    assert [outcome.text, *found] == [texts[0], *[texts[1]] * control.n_pauses]
    assert control.n_pauses == outcome.timing.preemptions >= 3  # one of the answers has 10 tokens only
    timing = outcome.timing
    assert 0 < timing.paused_s < time.monotonic() - long.release_s
    assert timing.prefill_s + timing.decode_s + timing.paused_s < time.monotonic() - long.release_s


@pytest.mark.parametrize('kind', ['qwen2', 'gemma3'])
@pytest.mark.parametrize('at_looks', [(1,), (2,), (6,), (9, 10), (1, 5, 9, 12)])
def test_a_prompt_is_read_on_where_it_stopped(engine_of, kind, at_looks):
    engine = engine_of(kind)
    long, short = request(75, **OTHERS['sampled']), request(40, 1, max_new_tokens=5)
    texts = alone(engine, long, short)
    found = []
    outcome, control = run(engine, long, at_looks=at_looks, then=lambda: found.append(run(engine, short)[0].text))
    assert [outcome.text, *found] == [texts[0], *[texts[1]] * len(at_looks)]
    assert control.n_pauses == len(at_looks) == outcome.timing.preemptions


@pytest.mark.parametrize('kind', ['qwen2', 'gemma3'])
def test_an_evicted_answer_goes_on_and_can_be_evicted_again(engine_of, kind):
    """What a scorer chooses by comes back too."""
    def text(at, keeps):
        engine, asked = engine_of(kind), request(80, 2)
        outcome, control = run(engine, asked, at=at, then=lambda: run(engine, request(90, 3, max_new_tokens=4)),
                               on_token=lambda n: n in keeps and engine.model.evict(keeps[n]))
        assert control.n_pauses == len(at)
        return outcome.text

    keeps = {3: 40, 9: 12}
    assert text((2, 5, 9, 12), keeps) == text((), keeps) != text((), {})


def test_they_give_way_inside_of_one_another_as_far_as_there_is_room(engine_of):
    engine = engine_of()
    engine.model.prefixes.clear()
    asked = [request(20, seed, max_new_tokens=6) for seed in range(MOST + 2)]
    texts, found, refusals = alone(engine, *asked), {}, []

    def start(i):
        if i < len(asked):
            control = Interrupted(Deadline(asked[i].deadline_s), at=(2,), then=lambda: start(i + 1))
            control.on_refused = refusals.append
            found[i] = engine.run(asked[i], control)

    start(0)
    # The last one that began could not give way, so nobody began after it.
    assert [found[i].text for i in range(MOST)] == texts[:MOST] and len(found) == MOST + 1
    assert found[MOST].finish_reason is FinishReason.CANCELED and refusals == [f'{MOST} goals have given way already']


def test_without_room_a_request_ends_with_its_text_and_a_reason(engine_of):
    engine, asked, refusals = engine_of(), request(100), []
    store, whole = engine.model.prefixes, alone(engine, asked)[0]
    run(engine, request(3 * TILE, 8, max_new_tokens=1))
    lent = [store.lend() for _ in range(BLOCKS // 3)]
    control = Interrupted(Deadline(asked.deadline_s), at=(5,))
    control.on_refused = refusals.append
    outcome = engine.run(asked, control)
    for places in lent:
        store.give_back(places)
    assert outcome.finish_reason is FinishReason.CANCELED and outcome.timing.preemptions == 0
    assert outcome.text and whole.startswith(outcome.text)
    n_free = TILE * (BLOCKS - 3 * len(lent))
    assert refusals == [f'its 105 cached entries are more than the {n_free} that prefix_cache_mib leaves room for']


def test_a_request_that_is_canceled_while_it_is_aside_ends_with_its_text(engine_of):
    engine = engine_of()
    asked = request(40)
    whole = alone(engine, asked)[0]
    control = Interrupted(Deadline(asked.deadline_s), at=(6,))
    control.on_pause = lambda: setattr(control, 'canceled', True)
    outcome = engine.run(asked, control)
    assert outcome.error_code is ErrorCode.CANCELED and outcome.timing.preemptions == 1
    assert outcome.text and whole.startswith(outcome.text) and control.n_tokens == 7


@pytest.mark.parametrize('strategy', [Strategy.TRUNCATE, Strategy.KILL])
def test_a_deadline_that_passes_while_it_is_aside_ends_it(engine_of, strategy):
    engine = engine_of()
    asked = request(40, strategy=strategy)
    whole = alone(engine, asked)[0]
    control = Interrupted(Deadline(asked.deadline_s), at=(6,))
    control.on_pause = lambda: setattr(control.deadline, 'at_s', time.monotonic() - 1.0)
    outcome = engine.run(asked, control)
    if strategy is Strategy.TRUNCATE:
        assert outcome.finish_reason is FinishReason.DEADLINE and whole.startswith(outcome.text) and outcome.text
    else:
        assert outcome.error_code is ErrorCode.DEADLINE_MISSED


def test_what_was_read_of_a_canceled_prompt_is_kept(engine_of):
    engine = engine_of()
    asked = request(90)
    text = alone(engine, asked)[0]
    control = Control(Deadline(asked.deadline_s))
    control.should_stop = lambda: setattr(control, 'looks', control.looks + 1) or control.looks > 7
    assert engine.run(asked, control).finish_reason is FinishReason.DEADLINE
    assert engine.model.prefixes.held(tiny_models.prompt_ids(90)) == 0, 'there was no time for it'
    control = Control(Deadline(asked.deadline_s))
    looks = control.should_stop
    control.should_stop = lambda: setattr(control, 'canceled', control.looks >= 6) or looks()
    assert engine.run(asked, control).error_code is ErrorCode.CANCELED
    again = run(engine, asked)[0]
    assert again.text == text and again.timing.reused_tokens == TILE


@pytest.mark.parametrize('at_look', [5, 7, 9])
@pytest.mark.parametrize('stops_at', [3, *(pytest.param(at, marks=pytest.mark.slow) for at in (1, 8))])
def test_a_prompt_is_read_on_where_it_stopped_though_another_one_was_stopped_meanwhile(engine_of, at_look, stops_at):
    engine = engine_of()
    asked, other = request(90), request(75, 1)
    text = alone(engine, asked)[0]

    def another_is_stopped():
        control = Control(Deadline(other.deadline_s))
        control.should_stop = lambda: setattr(control, 'looks', control.looks + 1) or control.looks >= stops_at
        assert engine.run(other, control).finish_reason is FinishReason.DEADLINE

    outcome, control = run(engine, asked, at_looks=(at_look,), then=another_is_stopped)
    assert outcome.text == text and control.n_pauses == 1
    assert run(engine, asked)[0].text == text, 'nor is anything wrong kept'


def test_nothing_is_kept_of_a_prompt_that_is_canceled_while_others_fill_the_cache(engine_of):
    engine = engine_of()
    asked, other = request(90), request(75, 1, max_new_tokens=3)
    text = alone(engine, asked)[0]
    control = Interrupted(Deadline(asked.deadline_s), at_looks=(7,))

    def others_run_and_it_is_canceled():
        run(engine, other)
        control.canceled = True

    control.on_pause = others_run_and_it_is_canceled
    assert engine.run(asked, control).error_code is ErrorCode.CANCELED
    assert engine.model.prefixes.held(tiny_models.prompt_ids(90)) == 0
    again = run(engine, asked)[0]
    assert again.text == text and again.timing.reused_tokens == 0


def test_states_of_an_answer_come_back(engine_of):
    """What lengths are learned from is kept apart from what others leave there."""
    engine = engine_of('qwen2')
    model = engine.model
    try:
        watch_states(model, 'states')
        seen = {}

        def states(at):
            asked = request(50, 4)
            control = Interrupted(Deadline(asked.deadline_s), at=at, then=lambda: run(engine, request(33, 5)))
            engine.run(asked, control)
            seen[at] = model.answer_state.read()

        states(())
        states((3, 9))
        assert all((one == other).all() for one, other in zip(seen[()], seen[3, 9], strict=True))
    finally:
        model.prompt_state = model.answer_state = None
