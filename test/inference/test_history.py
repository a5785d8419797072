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

"""Which turns of a long conversation are left out: the oldest ones, whole, and no more than needed."""
import pytest

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference.history import read, split
from timebill_ros.request import Request

CONTEXT = 100


class WordModel:
    """One token for each word, and one for each message's role. It counts how often it tokenizes."""

    max_context = CONTEXT

    def __init__(self):
        self.n_read = 0

    def render(self, request):
        if any(message['content'] == 'refused' for message in request.messages):
            raise GoalError(ErrorCode.INVALID_GOAL, 'the chat template refuses the messages')
        return request.prompt or ' '.join(f'{m["role"]} {m["content"]}' for m in request.messages)

    def tokenize(self, text, *, is_chat, should_stop=lambda: False):
        self.n_read += 1
        if should_stop():
            return None
        ids = text.split()
        if len(ids) >= CONTEXT:
            raise GoalError(ErrorCode.PROMPT_TOO_LONG, f'the prompt has {len(ids)} tokens')
        return ids


def message(role, n_words, word='w'):
    return {'role': role, 'content': ' '.join([word] * n_words)}


def conversation(*lengths, system=0):
    """A question of so many tokens and its answer of as many, for each length; the last one is not answered."""
    turns = [[message('user', n - 1, f'q{i}'), message('assistant', n - 1, f'a{i}')] for i, n in enumerate(lengths)]
    return [*([message('system', system - 1, 's')] if system else []), *sum(turns, [])[:-1]]


def read_it(messages, *, max_new_tokens=20, on_long_history='drop_oldest', should_stop=lambda: False, model=None):
    request = Request('id', 0.0, 1.0, messages=messages, max_new_tokens=max_new_tokens,
                      on_long_history=on_long_history)
    return read(model or WordModel(), request, should_stop)


def test_a_conversation_that_fits_is_read_whole_and_once():
    model = WordModel()
    found = read_it(conversation(10, 10, 10), model=model)
    assert (len(found.ids), found.dropped, model.n_read) == (50, 0, 1)


@pytest.mark.parametrize(('lengths', 'system', 'max_new_tokens', 'dropped'), [
    ((10, 10, 10, 10, 10), 0, 10, 0),  # 90 tokens and 10 of the answer are the whole context
    ((10, 10, 10, 10, 10), 0, 11, 2),
    ((10, 10, 10, 10, 10), 5, 10, 2),  # the system message stays
    ((10, 10, 10, 10, 10), 0, 10_000, 2),  # the answer has room for a quarter of the context
    ((200, 10, 10), 0, 20, 2),
    ((10, 200, 10), 0, 20, 4),  # the older turn goes too: what is left is one conversation
    ((2, 2, 2, 2, 80), 10, 20, 8),  # no room for the whole answer, but the last turn stays
])
def test_the_oldest_turns_go_and_no_more_than_needed(lengths, system, max_new_tokens, dropped):
    messages = conversation(*lengths, system=system)
    found = read_it(messages, max_new_tokens=max_new_tokens)
    assert found.dropped == dropped
    n_system = 1 if system else 0
    rest = messages[:n_system] + messages[n_system + dropped:]
    assert found.prompt == ' '.join(f'{m["role"]} {m["content"]}' for m in rest)


@pytest.mark.parametrize('n_turns', [2, 3, 500])
def test_a_long_conversation_is_not_tokenized_often(n_turns):
    for n_tokens in (2, 7, 30):
        model = WordModel()
        found = read_it(conversation(*[n_tokens] * n_turns), model=model)
        most = CONTEXT - 20
        kept = min(n_turns, max(1, (most + n_tokens) // (2 * n_tokens)))  # the last turn has no answer
        assert found.dropped == 2 * (n_turns - kept) and model.n_read <= 11


@pytest.mark.parametrize('messages', [conversation(10, 100), conversation(100), conversation(20, 50, system=60)])
def test_what_does_not_fit_by_itself_is_refused(messages):
    with pytest.raises(GoalError, match='the prompt has 1[0-9]+ tokens') as caught:
        read_it(messages)
    assert caught.value.code is ErrorCode.PROMPT_TOO_LONG


def test_nothing_goes_unless_that_was_asked_for():
    with pytest.raises(GoalError, match='the prompt has 170 tokens'):
        read_it(conversation(20, 20, 20, 20, 10), on_long_history='refuse')


def test_a_template_that_refuses_ends_the_search():
    messages = [*conversation(60, 60, 10), message('assistant', 1, 'refused')]
    with pytest.raises(GoalError, match='template'):
        read_it(messages)


@pytest.mark.parametrize('looks', [0, 1, 2])
def test_a_search_that_is_stopped_ends_at_once(looks):
    asked = []
    model = WordModel()
    assert read_it(conversation(*[20] * 64), should_stop=lambda: asked.append(1) or len(asked) > looks,
                   model=model) is None
    assert model.n_read <= looks + 7


def test_a_turn_is_a_question_and_all_that_follows_it():
    roles = ['system', 'system', 'assistant', 'user', 'assistant', 'tool', 'assistant', 'user', 'user', 'assistant']
    system, turns = split([{'role': role, 'content': 'x'} for role in roles])
    assert [m['role'] for m in system] == ['system', 'system']
    assert [[m['role'] for m in turn] for turn in turns] == [
        ['assistant'], ['user', 'assistant', 'tool', 'assistant'], ['user'], ['user', 'assistant']]
    assert split([]) == ([], [])
