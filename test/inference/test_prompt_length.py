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

"""Long prompts: refused before the whole is tokenized, stopped at any time, and never read other than as a whole."""
from __future__ import annotations

import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prompt import KINDS, chat
from test_text import TOKENIZERS
from tokenizers import AddedToken, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference import prompt_length
from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.inference.prompt_length import PIECE_CHARACTERS, WHOLE_CHARACTERS, longest_token_bytes
from timebill_ros.request import Request

FOX = '\U0001f98a'
ALL = {**TOKENIZERS, **{name: made for name, (made, _) in KINDS.items()}}
BOUNDED = ['byte_level', 'llama_2', 'gemma', 'chatml', 'llama_3', 'mistral']


def facts(tokenizer):
    return json.loads(tokenizer.backend_tokenizer.to_str())


class Recording:
    """A tokenizer that notes the lengths of what it is given, and may wait before it answers."""

    def __init__(self, tokenizer):
        self._tokenizer, self.lengths, self.before = tokenizer, [], lambda: None

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, text, **options):
        self.lengths.append(len(text))
        self.before()
        return self._tokenizer(text, **options)


# -- what is refused, and what is read -------------------------------------------------------------------------------

FRAGMENTS = [FOX, ' ', '\n', 'a', 'the cup ', '\u597d', 'e\u0301', '\u2581', '<|im_end|>', '<unk>', '<',
             'x' * 101 + ' ', '\ufdd0', '\u200d']
LONG = st.lists(st.tuples(st.sampled_from(FRAGMENTS), st.integers(1, 20_000)), min_size=2, max_size=9).map(
    lambda parts: ''.join(part * (n // len(part) + 1) for part, n in parts) + 'the end')


@pytest.mark.parametrize('name', ['byte_level', 'llama_2', 'word_piece', 'metaspace', 'phi_3'])
@given(text=LONG, near=st.sampled_from([-2000, -1, 0, 1, 2000]), data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_ids_are_those_of_the_whole_and_only_what_does_not_fit_is_refused(name, text, near, data):
    whole = ALL[name](text, verbose=False)['input_ids']
    context = max(2, data.draw(st.sampled_from([len(whole), len(whole) // 3])) + near)
    try:
        ids = PromptEncoder(name, ALL[name], context).tokenize(text, is_chat=False)
    except GoalError as error:
        assert error.code in (ErrorCode.PROMPT_TOO_LONG, ErrorCode.INVALID_GOAL)
        assert len(whole) >= context or not whole
    else:
        assert ids == whole and len(ids) < context


@pytest.mark.parametrize('name', ALL)
def test_a_million_emoji_are_refused_before_the_whole_is_tokenized(name):
    tokenizer = Recording(ALL[name])
    encoder = PromptEncoder(name, tokenizer, 8192)
    tokenizer.lengths.clear()
    if name in ('word_level', 'word_piece'):  # there the whole is one unknown word
        assert len(encoder.tokenize(FOX * 100_000, is_chat=False)) == 1
        return
    with pytest.raises(GoalError, match='1000000 characters.* 8191 tokens fit the context of 8192') as refused:
        encoder.tokenize(FOX * 1_000_000, is_chat=False)
    assert refused.value.code is ErrorCode.PROMPT_TOO_LONG
    assert len(tokenizer.lengths) <= 4 and max(tokenizer.lengths, default=0) <= PIECE_CHARACTERS
    assert (tokenizer.lengths == []) == (name in BOUNDED and longest_token_bytes(facts(tokenizer)) < 400)


@pytest.mark.parametrize('name', ALL)
@given(text=st.text(max_size=80) | st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(''.join))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_token_stands_for_more_bytes_than_the_bound_says(name, text):
    longest = longest_token_bytes(facts(ALL[name]))
    assert (longest is not None) == (name in BOUNDED)
    if longest is not None:
        n = len(ALL[name](text, add_special_tokens=False)['input_ids'])
        assert n * longest >= len(text.encode(errors='surrogatepass'))


def altered(name, change):
    made = PreTrainedTokenizerFast(tokenizer_object=type(ALL[name].backend_tokenizer).from_str(
        ALL[name].backend_tokenizer.to_str()))
    change(made.backend_tokenizer)
    return longest_token_bytes(facts(made))


@pytest.mark.parametrize('change', [
    lambda backend: setattr(backend, 'normalizer', normalizers.NFC()),
    lambda backend: setattr(backend, 'normalizer', normalizers.Sequence([normalizers.Strip()])),
    lambda backend: setattr(backend, 'normalizer', normalizers.Replace('aaa', 'a')),
    lambda backend: setattr(backend, 'pre_tokenizer', pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel()])),
    lambda backend: setattr(backend, 'pre_tokenizer', pre_tokenizers.Sequence(
        [pre_tokenizers.Split(' ', 'removed'), pre_tokenizers.ByteLevel()])),
    lambda backend: setattr(backend, 'pre_tokenizer', None),
    lambda backend: backend.add_tokens([AddedToken('<mask>', lstrip=True)]),
])
def test_there_is_no_bound_where_text_may_vanish(change):
    assert altered('byte_level', lambda backend: None) is not None
    assert altered('byte_level', change) is None


# -- stopping --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('looks', [1, 3, 7])
def test_a_long_prompt_is_looked_up_from_between_its_pieces(looks):
    tokenizer, seen = Recording(ALL['phi_3']), []
    encoder = PromptEncoder('phi_3', tokenizer, 10 ** 6)
    tokenizer.lengths.clear()
    assert encoder.tokenize('the cup ' * 12_500, is_chat=False, should_stop=lambda: seen.append(0) or len(
        seen) == looks) is None
    assert tokenizer.lengths == [PIECE_CHARACTERS] * (looks - 1)


def test_a_short_prompt_is_read_at_once():
    tokenizer = Recording(ALL['phi_3'])
    text = 'the cup ' * (WHOLE_CHARACTERS // 8)
    encoder = PromptEncoder('phi_3', tokenizer, 10 ** 6)
    tokenizer.lengths.clear()
    assert encoder.tokenize(text, is_chat=False, should_stop=lambda: True) == ALL['phi_3'](text)['input_ids']
    assert tokenizer.lengths == [len(text)]


def test_a_goal_is_stopped_while_the_whole_is_read_and_the_next_one_waits_its_turn():
    tokenizer, goes_on, texts = Recording(ALL['phi_3']), threading.Event(), ['the cup ' * 5000, 'the cup', 'the end']
    encoder = PromptEncoder('phi_3', tokenizer, 10 ** 6)
    running = []

    def wait():
        if tokenizer.lengths[-1] > PIECE_CHARACTERS:
            running.append(1)
            goes_on.wait(60.0)
            running.pop()
        assert not running, 'two texts at once'

    tokenizer.before = wait
    assert encoder.tokenize(texts[0], is_chat=False, should_stop=lambda: bool(running)) is None
    assert running and encoder.tokenize(texts[1], is_chat=False, should_stop=lambda: True) is None
    goes_on.set()
    for text in texts:
        assert encoder.tokenize(text, is_chat=False) == ALL['phi_3'](text)['input_ids']


def test_other_threads_run_while_a_text_with_special_tokens_is_read(monkeypatch):
    """One of them takes a cancel from the node, another tells the node that the worker lives."""
    encoder, ticks, ended = PromptEncoder('chatml', ALL['chatml'], 10 ** 6), [], threading.Event()
    rendered = encoder.render(Request('id', 0.0, 1.0, messages=chat('<|im_end|>' + FOX * 60_000)))

    def tick():
        while not ended.is_set():
            ticks.append(0)
            time.sleep(0.002)

    thread = threading.Thread(target=tick)
    thread.start()
    monkeypatch.setattr(prompt_length, 'WHOLE_CHARACTERS', 10 ** 9)  # nothing but the one call
    before = len(ticks)
    assert encoder._special_tokens.encode(rendered)
    seen = len(ticks) - before
    ended.set()
    thread.join()
    assert seen >= 5
