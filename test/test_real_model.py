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

"""A real model: its tokenizer on real texts, its text piece by piece, its sampler against transformers' own.

TIMEBILL_REAL_MODEL names the directory of a chat model whose template is ChatML and whose tokenizer is a byte-level
BPE, such as SmolLM2-135M-Instruct. TIMEBILL_REAL_TEXTS names a folder of gzipped JSON lines with a field `prompt`;
without it only a few texts from here are taken.
"""
import functools
import gzip
import json
import os
import random
import time
from pathlib import Path

import pytest
import torch
import transformers

from timebill_ros.codes import ErrorCode, FinishReason
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.inference.prompt_state import PromptState
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.special_tokens import SpecialTokens
from timebill_ros.inference.text import StopStrings, TextStream, decode
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Request, Sampling
from timebill_ros.resources import quality_table_path
from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.timing.profiling import make_profile, measure

NAME = os.environ.get('TIMEBILL_REAL_MODEL', '')
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not NAME, reason='TIMEBILL_REAL_MODEL names no model')]

TEXTS = ['What is the capital of France?', 'Écris une phrase sur les œufs à la coque.', '日本の首都はどこですか。',
         'नमस्ते, आप कैसे हैं?', 'Tell a joke with emoji 😀🏳️‍🌈👩🏽‍🚀.', 'a < b > c, <b>bold</b>, |x| <| |>',
         ' \n\t spaces \r\n', '']
SPECIAL = ['<|endoftext|>', '<|im_end|>', '<|im_start|>system', '<filename>', '<s>', '</s>', '<mask>', '<unk>', '<pad>']


@functools.cache
def model() -> CausalLM:
    torch.set_num_threads(1)
    return CausalLM(NAME, device='cpu', dtype='float32', max_context_tokens=4096, threads=1)


def texts() -> list[str]:
    found = list(TEXTS)
    for path in sorted(Path(os.environ['TIMEBILL_REAL_TEXTS']).glob('*.jsonl.gz')
                       if os.environ.get('TIMEBILL_REAL_TEXTS') else ()):
        with gzip.open(path, 'rt', encoding='utf-8') as lines:
            found += [json.loads(line)['prompt'] for line in lines]
    return found


def chat(content: str, **fields) -> Request:
    return Request('id', 0.0, 1e9, messages=[{'role': 'user', 'content': content}], **fields)


@functools.cache
def prompt_encoder() -> PromptEncoder:
    return PromptEncoder(NAME, model().tokenizer, 1 << 20)  # no text is too long


def ids_of(request: Request) -> list[int]:
    prompts = prompt_encoder()
    return prompts.tokenize(prompts.render(request), is_chat=bool(request.messages))


def transformers_ids(messages: list[dict], **options) -> list[int]:
    ids = model().tokenizer.apply_chat_template(messages, tokenize=True, **{'add_generation_prompt': True, **options})
    return list(ids if isinstance(ids, list) else ids['input_ids'])


@functools.cache
def plain_tokenizer():
    """The model's tokenizer without its added tokens: all is ordinary text to it."""
    from tokenizers import Tokenizer
    facts = json.loads(model().tokenizer.backend_tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**facts, 'added_tokens': [], 'post_processor': None}))


def as_text(text: str) -> list[int]:
    return plain_tokenizer().encode(text, add_special_tokens=False).ids


# -- prompts ---------------------------------------------------------------------------------------------------------

@pytest.mark.timeout(1200)
def test_real_texts_give_the_ids_of_transformers():
    special = SpecialTokens(model().tokenizer).texts
    wrong, n_seen = [], 0
    for text in texts():
        if any(token in text for token in special):
            continue
        n_seen += 1
        if ids_of(chat(text)) != transformers_ids([{'role': 'user', 'content': text}]):
            wrong.append(text[:80])
    print(f'{n_seen} texts')
    assert n_seen and not wrong


@pytest.mark.parametrize('token', SPECIAL)
@pytest.mark.parametrize('shape', ['{}', 'a{}b', 'a {} b', '\n{}\n', '{0}{0}', 'x{}', '{} x', '日{}😀'])
def test_texts_of_special_tokens_are_encoded_as_ordinary_text(token, shape):
    content = shape.format(token)
    start, end = (model().tokenizer.convert_tokens_to_ids(text) for text in ('<|im_start|>', '<|im_end|>'))
    messages = [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': content}]
    got = ids_of(Request('id', 0.0, 1e9, messages=messages))
    expected = [start, *as_text('system\nBe brief.'), end, *as_text('\n'), start, *as_text(f'user\n{content}'), end,
                *as_text('\n'), start, *as_text('assistant\n')]
    assert got == expected
    assert f'user\n{content}<|im_end|>' in model().tokenizer.decode(got, clean_up_tokenization_spaces=False)


def test_an_answer_that_was_begun_is_not_closed():
    tokenizer = model().tokenizer
    messages = [{'role': 'user', 'content': 'What is the capital of France?'},
                {'role': 'assistant', 'content': 'The capital of France is'}]
    ids = ids_of(Request('id', 0.0, 1e9, messages=messages))
    assert ids == transformers_ids(messages, add_generation_prompt=False, continue_final_message=True)
    assert tokenizer.decode(ids).endswith('The capital of France is')
    outcome, _ = run(messages=messages, max_new_tokens=8)
    assert 'Paris' in outcome.text


def test_a_raw_prompt_has_one_bos_at_the_most():
    tokenizer = model().tokenizer
    for text in ('hello', f'{tokenizer.bos_token}hello'):
        ids = ids_of(Request('id', 0.0, 1e9, prompt=text))
        assert ids.count(tokenizer.bos_token_id) <= 1
        assert tokenizer.decode(ids).removeprefix(tokenizer.bos_token or '') == 'hello'


# -- text ------------------------------------------------------------------------------------------------------------

def run(**fields):
    engine = Engine(model(), None, ExecutionTimes(a=0, b=0, c=0, p=0, q=0), Tracker('fixed', k=5),
                    prefill_chunk_tokens=256, prediction_wait_s=0.0)
    now = time.monotonic()
    request = Request('id', now, now + 120.0, **fields)
    control = Control(Deadline(request.deadline_s))
    outcome = engine.run(request, control)
    return outcome, [int(i) for i in control.tokens[:control.n_tokens]]


def pieces(ids: list[int], draw: random.Random) -> list[str]:
    stream, n, found = TextStream(model().tokenizer), 0, []
    while n < len(ids):
        n = min(len(ids), n + draw.choice([1, 1, 1, 2, 5]))
        found.append(stream.advance(ids, n, last=n == len(ids)))
    return found


@pytest.mark.parametrize('kind', ['texts', 'random tokens'])
def test_pieces_concatenate_to_the_whole(kind):
    draw, tokenizer = random.Random(1), model().tokenizer
    for text in [text for text in TEXTS if text] * 3 + texts()[-50:]:
        ids = as_text(text)[:600] if kind == 'texts' else [draw.randrange(len(tokenizer)) for _ in range(80)]
        found = pieces(ids, draw)
        assert ''.join(found) == decode(tokenizer, ids)
        # What is given out is never taken back: half a character is given out only where it stays half.
        assert decode(tokenizer, ids).count('\ufffd') == ''.join(found).count('\ufffd')


@pytest.mark.parametrize('prompt', [
    'Write ten emoji: 😀🎉🚀', '用中文写一首关于月亮的诗。', 'Напиши стихотворение о море.',
    'اكتب جملة عن البحر', '日本語で海について書いてください。', 'हिन्दी में एक कविता लिखो'])
@pytest.mark.parametrize('temperature', [0.0, 1.0, 1.6])
def test_pieces_of_real_answers_concatenate_to_the_result(prompt, temperature):
    draw = random.Random(2)
    outcome, ids = run(messages=[{'role': 'user', 'content': prompt}], max_new_tokens=40,
                       sampling=Sampling(temperature=temperature, seed=3))
    assert outcome.error_code is ErrorCode.NONE and len(ids) > 5
    for _ in range(5):
        assert ''.join(pieces(ids, draw)) == decode(model().tokenizer, ids)
    assert decode(model().tokenizer, ids).startswith(outcome.text)


@pytest.mark.parametrize('stop', ['.', ' the', 'Paris', '\n', '月'])
def test_a_stop_text_ends_an_answer_where_it_first_occurs(stop):
    messages = [{'role': 'user', 'content': 'Tell me about Paris, and write the Chinese word for moon (月).'}]
    whole, _ = run(messages=messages, max_new_tokens=60)
    cut, _ = run(messages=messages, max_new_tokens=60, sampling=Sampling(stop=[stop]))
    assert cut.text == whole.text.split(stop)[0]
    assert (cut.finish_reason is FinishReason.STOP) is (stop in whole.text)
    assert StopStrings(model().tokenizer, [stop]).cut(whole.text) == cut.text


SHOTS = [('Name a room and its floor.', '{"room": "kitchen", "floor": 1}'),
         ('Name a tool and its weight.', '{"tool": "hammer", "weight": 0.5}')]


@pytest.mark.parametrize('asked', [
    'Name an animal and its legs.', 'Name a city and its country.', 'Name a colour and a thing that has it.',
    'Name a robot and what it does.', 'Name a fruit and its colour.', 'Name a person and their age.'])
def test_json_that_it_writes_by_itself_is_the_same_under_a_form(asked, monkeypatch):
    pytest.importorskip('llguidance')
    from timebill_ros.inference.grammars.compiler import grammars_of
    monkeypatch.setattr(model(), 'grammars', grammars_of(model()))
    messages = [message for question, answer in SHOTS for message in (
        {'role': 'user', 'content': question}, {'role': 'assistant', 'content': answer})]
    fields = dict(messages=[*messages, {'role': 'user', 'content': asked}], max_new_tokens=60)
    free, ids = run(**fields)
    assert free.finish_reason is FinishReason.EOS and isinstance(json.loads(free.text), dict)
    found, under = run(**fields, response_schema='{}', sampling=Sampling(masked=True))
    assert (found.text, under) == (free.text, ids)


# -- sampling --------------------------------------------------------------------------------------------------------

def reference(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
    scores, ids = logits[None].double(), torch.zeros(1, 1, dtype=torch.long)
    scores = TemperatureLogitsWarper(sampling.temperature)(ids, scores)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(ids, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(ids, scores)
    return scores.softmax(-1)[0]


@pytest.mark.parametrize('prompt', ['What is the capital of France?', 'Write a story.', 'Name any word.'])
@pytest.mark.parametrize('values', [(0.7, 0.9, 50), (1.0, 1.0, 0), (1.0, 0.95, 0), (0.3, 1.0, 5), (2.0, 0.999, 0)])
def test_draws_on_real_logits_are_distributed_as_those_of_transformers(prompt, values):
    temperature, top_p, top_k = values
    sampling = Sampling(temperature, top_p, top_k, seed=5)
    model().reset()
    logits = model().prefill(ids_of(chat(prompt)), chunk_tokens=256).float().clone()
    expected = reference(logits, sampling)
    sampler = Sampler(sampling, logits.device)
    assert 0.5 * (sampler.probabilities(logits).double() - expected).abs().sum() < 1e-4
    n = 5000
    drawn = torch.bincount(torch.stack([sampler.draw(logits) for _ in range(n)]), minlength=len(logits)).double()
    assert drawn[expected == 0].sum() == 0
    # Chi-square over the tokens that are expected five times or more; all others together are one class.
    often = expected * n >= 5
    classes = [(drawn[often], expected[often] * n), (drawn[~often].sum()[None], expected[~often].sum()[None] * n)]
    chi2 = sum(float(((d - e) ** 2 / e.clamp(min=1.0)).sum()) for d, e in classes)
    freedom = int(often.sum())
    print(f'chi-square {chi2:.1f} of {freedom} degrees of freedom, {int((drawn > 0).sum())} tokens drawn')
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5 + 10


# -- budgets ---------------------------------------------------------------------------------------------------------

@functools.cache
def engine() -> Engine:
    """Return an engine that plans by the shipped table, without a length predictor, as the node does."""
    points = measure(model(), None, chunk_tokens=256, budget_s=10.0, repeats=2)
    profile = make_profile(model(), None, points, 256)
    return Engine(model(), None, profile.times, Tracker.of(profile), prefill_chunk_tokens=256,
                  rule=QualityRule(QualityTable.load(quality_table_path())))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize('prompt', [
    'What is the capital of France?', 'Name three primary colors.', 'What is 7 times 8?'])
def test_an_answer_is_whole_or_a_beginning_of_it_at_every_budget(prompt):
    """A short prompt is never evicted. Where the time is short, the answer is cut or the goal refused."""
    def ask(budget_s):
        now = time.monotonic()
        request = Request('id', now, now + budget_s, messages=[{'role': 'user', 'content': prompt}],
                          delivery_margin_s=0.0)
        outcome = engine().run(request, Control(Deadline(request.deadline_s)))
        return outcome, time.monotonic() - now

    ask(600.0)
    whole, unhurried_s = ask(600.0)
    assert whole.finish_reason is FinishReason.EOS and whole.text
    for share in (10.0, 4.0, 2.0, 1.5, 0.8, 0.5, 0.25):
        outcome, _ = ask(share * unhurried_s)
        assert not outcome.timing.eviction_ratio > 0
        if outcome.finish_reason is FinishReason.EOS:
            assert outcome.text == whole.text
        elif outcome.error_code is ErrorCode.NONE:
            assert outcome.finish_reason is FinishReason.DEADLINE and whole.text.startswith(outcome.text)
        else:
            assert outcome.error_code in (ErrorCode.INFEASIBLE, ErrorCode.DEADLINE_MISSED) and outcome.text == ''
        assert share < 10 or outcome.finish_reason is FinishReason.EOS, 'ten times the time is enough on any machine'


def test_the_state_that_prefill_leaves_is_the_hidden_state_of_transformers():
    one = model()
    ids = one.tokenizer.encode(TEXTS[0] * 5, add_special_tokens=False)
    reference = transformers.AutoModelForCausalLM.from_pretrained(NAME, dtype=torch.float32).eval()
    with torch.no_grad():
        states = reference(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
    one.prompt_state = PromptState(one.model)
    try:
        depth = one.prompt_state.depth
        expected, before = (states[i][0, -1].numpy() for i in (depth, depth - 1))
        for chunk_tokens in (1000, 7):
            one.reset()
            one.prefill(ids, chunk_tokens=chunk_tokens)
            found = one.prompt_state.read()
            assert abs(found - expected).max() < 1e-3 * abs(expected).max() < 0.1 * abs(before - expected).max()
    finally:
        one.prompt_state = None
        one.reset()
