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

"""Tokens under a grammar, from real architectures: those that a whole forward pass gives under the masks."""
import json
import re

import jsonschema
import pytest
import torch
from answer_forms import SCHEMAS, TEXTS
from byte_tokenizers import KINDS, build

pytest.importorskip('llguidance')
from timebill_ros.codes import FinishReason  # noqa: E402
from timebill_ros.deadline import Deadline  # noqa: E402
from timebill_ros.inference.control import Control  # noqa: E402
from timebill_ros.inference.decode import decode  # noqa: E402
from timebill_ros.inference.grammars.chain import GrammarChain, MaskedSampler, RestrictedModel  # noqa: E402
from timebill_ros.inference.grammars.compiler import Grammars, grammars_of  # noqa: E402
from timebill_ros.inference.model import CausalLM  # noqa: E402
from timebill_ros.inference.text import StopStrings  # noqa: E402
from timebill_ros.request import Request, Sampling  # noqa: E402

PROMPT = [5, 40, 7, 33, 12, 99, 61, 80]


@pytest.fixture(scope='module', params=[('qwen2', 'byte level'), ('gemma3', 'byte fallback'), ('mamba', 'byte level')],
                ids=lambda pair: pair[0])
def model(request, tmp_path_factory):
    kind, tokenizer = request.param
    made = CausalLM(str(build(tmp_path_factory.mktemp(kind), kind, tokenizer)), device='cpu', threads=1)
    made.grammars = grammars_of(made)
    assert isinstance(made.grammars, Grammars), made.grammars.reason
    return made


def answer_of(model, **fields):
    request = Request('id', 0.0, 1.0, prompt='p', **fields)
    return model.grammars.collect(model.grammars.start(request), lambda: False)


def run(model, answer, n, sampling=None):
    """Return (why it ended, tokens)."""
    control = Control(Deadline(float('inf')), tokens=[0] * n)
    restricted = RestrictedModel(model, answer)
    model.reset()
    logits = model.prefill(PROMPT, chunk_tokens=64)
    with restricted.drawing(sampling or Sampling(), PROMPT) as sampler:
        reason = decode(restricted, sampler, logits, position=len(PROMPT), n_kv=len(PROMPT), cap=n,
                        cap_reason=FinishReason.LENGTH, step_s=lambda n_kv: 0.0, stops=StopStrings(model.tokenizer, ()),
                        control=control)
    return reason, control.tokens[:control.n_tokens]


@torch.inference_mode()
def check_greedy(model, answer, tokens) -> int:
    """Assert that whole forward passes give `tokens` under the masks of `answer`; return how many were forced."""
    i = n_forced = 0
    while i < len(tokens):
        model.reset()
        logits = model.prefill(PROMPT + tokens[:i], chunk_tokens=1000)
        allowed = logits.masked_fill(~answer.mask(logits), float('-inf'))
        assert allowed.max() - allowed[tokens[i]] < 1e-3, f'token {i}'
        if tokens[i] in model.eos_ids:
            break
        answer.accept(tokens[i])
        forced = answer.forced()[:len(tokens) - i - 1]
        assert tokens[i + 1:i + 1 + len(forced)] == forced
        i, n_forced = i + 1 + len(forced), n_forced + len(forced)
    return n_forced


@pytest.mark.parametrize('name', ['enums', 'flat', 'recursive'])
def test_greedy_tokens_are_those_of_whole_passes_and_forced_ones_have_no_step(model, name):
    answer = answer_of(model, response_schema=TEXTS[name])
    reason, tokens = run(model, answer, 60)
    assert answer.mask_s > 0
    n_forced = answer.n_forced
    assert n_forced > 3 and check_greedy(model, answer_of(model, response_schema=TEXTS[name]), tokens) == n_forced
    if reason is FinishReason.EOS:
        text = answer.written(tokens[:-1])
        jsonschema.validate(json.loads(text), SCHEMAS[name])
        assert model.tokenizer.decode(tokens, skip_special_tokens=True) == text.decode()


def test_choices_end_without_a_step_for_their_end(model):
    answer = answer_of(model, choices=['kitchen', 'hall'])
    steps = []
    step = model.step
    model.step = lambda token, position: steps.append(position) or step(token, position)
    try:
        reason, tokens = run(model, answer, 30)
    finally:
        del model.step
    assert reason is FinishReason.EOS and tokens[-1] in model.eos_ids
    assert answer.written(tokens[:-1]).decode() in ('kitchen', 'hall')
    assert not steps  # the first letter says all


@pytest.mark.parametrize('sampling', [Sampling(temperature=1.0, seed=3), Sampling(temperature=2.0, top_p=0.9, seed=4),
                                      Sampling(temperature=1.0, top_k=5, seed=5), Sampling(repetition_penalty=1.3)],
                         ids=lambda sampling: sampling.kind)
def test_drawing_by_chance_keeps_the_form(model, sampling):
    answer = answer_of(model, regex='[a-c]{2,4}(, [a-c]{2,4}){1,3}\\.')
    reason, tokens = run(model, answer, 60, sampling)
    assert reason is FinishReason.EOS
    assert re.fullmatch('[a-c]{2,4}(, [a-c]{2,4}){1,3}\\.', answer.written(tokens[:-1]).decode())


def test_the_chain_starts_nothing_ahead(model):
    sampler = MaskedSampler(Sampling(), model.device, PROMPT, answer_of(model, regex='a+'))
    chain = GrammarChain(model, sampler)
    assert sampler.waits_for_host and not chain.ahead and chain.forced == 0


@pytest.mark.parametrize('tokenizer', KINDS)
def test_a_model_that_wants_nothing_but_white_space_gets_on(tokenizer, tmp_path):
    made = CausalLM(str(build(tmp_path, 'llama', tokenizer)), device='cpu', threads=1)
    made.grammars = grammars_of(made)
    blank = [i for i in range(len(made.tokenizer)) if made.tokenizer.decode([i]).isspace()]
    answer = answer_of(made, response_schema=TEXTS['flat'])
    mask = answer.mask
    plain = MaskedSampler.draw

    def wants_white_space(self, logits, mask=None):
        logits = logits.clone()
        logits[blank] += 1000.0
        return plain(self, logits)
    MaskedSampler.draw = wants_white_space
    try:
        reason, tokens = run(made, answer, 400)
    finally:
        MaskedSampler.draw = plain
    assert mask == answer.mask
    text = answer.written([t for t in tokens if t not in made.eos_ids]).decode()
    assert text.strip() and '"name"' in text


def test_answers_of_the_same_form_are_written_inside_of_one_another(model):
    """The compiled form is shared. One answer gives way twice, before its first token and in its middle."""
    sampling = Sampling(temperature=1.0, seed=3, masked=True)

    def tokens(at):
        answer = answer_of(model, response_schema=TEXTS['flat'])
        restricted, found = RestrictedModel(model, answer), []
        if at:
            run(model, answer_of(model, response_schema=TEXTS['flat']), 20, Sampling(temperature=1.0, seed=8))
        model.reset()
        logits = model.prefill(PROMPT, chunk_tokens=64)
        with restricted.drawing(sampling, PROMPT) as sampler:
            chain = restricted.chain(sampler)
            chain.start(logits)
            while len(found) < 40:
                found.append(chain.read())
                if found[-1] in model.eos_ids:
                    break
                if chain.forced:
                    continue
                if len(found) >= at > 0:
                    at, kept, cached = 0, chain.save(), model.snapshot()
                    other = answer_of(model, response_schema=TEXTS['flat'])
                    run(model, other, 30, Sampling(temperature=1.0, seed=9))
                    model.reset()
                    model.restore(cached)
                    chain.restore(kept)
                chain.launch(len(PROMPT) + len(found) - chain.width)
        return found

    if model.cache is None:
        pytest.skip('no snapshots of its own cache')
    assert tokens(at=0) == tokens(at=1) == tokens(at=7)
