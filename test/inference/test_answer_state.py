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


"""The states of an answer are those that enter the head, of every kind of step, also where steps are started ahead."""
import functools
import math

import numpy as np
import pytest
import tiny_models
import torch
import transformers

from timebill_ros.codes import FinishReason
from timebill_ros.deadline import Deadline
from timebill_ros.inference.answer_state import EVERY, AnswerState
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.steps import captured
from timebill_ros.inference.streams import Stream
from timebill_ros.inference.text import StopStrings
from timebill_ros.request import Sampling
from timebill_ros.resources import cache_directory

IDS = [i * 7 % 90 + 6 for i in range(60)]


class Reading:
    """Reads the states at each look at the plan."""

    def __init__(self, states):
        self.states, self.found = states, {}

    def __call__(self, n, n_kv, pace):
        self.found[n] = self.states.read()
        return n_kv


def capturer(device):
    """Stand in for CUDA graphs: what was captured is run again, into the same tensors."""
    def capture(call):
        call()  # as before a capture
        return call
    return capture


@functools.cache
def load(kind, steps='modules'):
    directory = cache_directory() / 'steps' if steps == 'compiled' else None
    model = CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, dtype='float32',
                     compiled_steps=directory)
    if steps == 'captured':
        with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
            patch.setattr(captured, 'capturer', capturer)
            model.prefill(IDS, chunk_tokens=64)
            model.steps['float32'] = captured.CapturedStep(model.steps['float32'], model.cache)
        model.use_variant('float32')
    model.prefill(IDS, chunk_tokens=64)
    model.answer_state = AnswerState(model.hidden, model.stream)
    model.eos_ids = frozenset()
    return model


def answer(model, replan, *, sampling, cap=26, replan_tokens=5):
    """Answer IDS by the token loop, and return the tokens."""
    model.reset()
    logits = model.prefill(IDS, chunk_tokens=64)
    control = Control(Deadline(math.inf), tokens=[0] * cap)
    reason = decode(model, Sampler(sampling, model.device), logits, position=len(IDS), n_kv=len(IDS), cap=cap,
                    cap_reason=FinishReason.LENGTH, step_s=lambda n_kv: 0.0, stops=StopStrings(model.tokenizer, ()),
                    control=control, replan_tokens=replan_tokens, replan=replan)
    assert reason is FinishReason.LENGTH
    return control.tokens


@functools.cache
def reference(kind):
    return transformers.AutoModelForCausalLM.from_pretrained(
        tiny_models.directory(kind), attn_implementation='eager', dtype=torch.float32).eval()


def head_inputs(kind, ids):
    """What enters the head of transformers' model for each token [L, H]."""
    model, seen = reference(kind), []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    with torch.no_grad():
        model(torch.tensor([ids]), use_cache=False)
    hook.remove()
    return seen[-1].numpy()


@pytest.mark.parametrize('sampling', [Sampling(), Sampling(temperature=1.0, seed=1)], ids=['greedy', 'by_chance'])
@pytest.mark.parametrize(('kind', 'steps'), [
    ('qwen2', 'modules'), pytest.param('qwen2', 'compiled', marks=pytest.mark.slow), ('qwen2', 'captured'),
    ('mamba', 'modules')])
def test_the_states_are_those_that_enter_the_head(kind, steps, sampling):
    model = load(kind, steps)
    assert model._step.kind == steps and model.chain(Sampler(sampling, model.device)).ahead == (steps == 'captured')
    for _ in range(2):  # a second answer begins anew
        reading = Reading(model.answer_state)
        tokens = answer(model, reading, sampling=sampling)
        states = head_inputs(kind, [*IDS, *tokens[:-1]])[len(IDS) - 1:]  # states[n - 1] gave token n
        assert list(reading.found) == [5, 10, 15, 20, 25]
        for n, (newest, mean) in reading.found.items():
            assert newest.dtype == mean.dtype == np.float32
            np.testing.assert_allclose(newest, states[n - 1], rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(mean, states[EVERY - 1:n:EVERY].mean(axis=0), rtol=2e-3, atol=2e-3)
        assert abs(states[24] - states[23]).max() > 0.02, 'a state that could not be told from another'


def test_an_answer_is_the_same_whether_its_states_are_kept_or_not():
    model = load('qwen2', 'captured')
    kept = answer(model, Reading(model.answer_state), sampling=Sampling(), replan_tokens=3)
    watch, model.answer_state = model.answer_state, None
    try:
        assert answer(model, lambda n, n_kv, pace: n_kv, sampling=Sampling(), replan_tokens=3) == kept
    finally:
        model.answer_state = watch


def test_before_the_fourth_token_the_mean_is_the_newest_state():
    model = load('qwen2')
    reading = Reading(model.answer_state)
    answer(model, reading, sampling=Sampling(), cap=4, replan_tokens=2)
    newest, mean = reading.found[2]
    assert (newest == mean).all()


def test_half_precision_of_a_batch_is_added_up_in_float32():
    states, draw = AnswerState(torch.zeros(3, 8, dtype=torch.bfloat16), Stream()), torch.Generator().manual_seed(0)
    assert states.width == 8
    with pytest.raises(ValueError, match='no step'):
        states.read()
    rows = [torch.randn(3, 8, generator=draw).to(torch.bfloat16) for _ in range(4001)]
    place = states._both.data_ptr()
    for row in rows:
        states.passed(row)
    newest, mean = states.read()
    assert newest.shape == mean.shape == (3, 8) and (newest == rows[-1].float().numpy()).all()
    np.testing.assert_allclose(mean, torch.stack(rows[2::4]).double().mean(dim=0).numpy(), atol=1e-4)
    assert states._both.data_ptr() == place
    again = newest.copy()
    states.passed(rows[0])
    states.read()
    assert (newest == again).all(), 'what was read stays'
