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

"""Scripts: what a file says, which answer a prompt gets, and what is refused."""
from __future__ import annotations

import pytest

from timebill_ros.resources import example_script
from timebill_ros.worker import script
from timebill_ros.worker.checked_yaml import YamlError
from timebill_ros.worker.script import Answer, Fault, Pause, Times, tokens_of
from timebill_ros.worker.scripted_faults import FAULTS

WHOLE = '''
format: 1
start: {seconds: 0.5, error: 'no battery'}
times: {prompt_s: 1, prompt_token_s: 0.5, token_s: 0.25, entry_s: 0.125}
context_tokens: 100
answers:
  - {when: 'dock', text: 'to the dock', uses: 2, ends: false, predicted_tokens: 3, pessimistic_tokens: 9,
     prompt_s: 0.1, token_s: 0.2, pauses: [{after_tokens: 2, seconds: 3}, {seconds: 1}], fault: {kind: hang}}
  - {}
'''


@pytest.fixture
def load(tmp_path):
    def write(text):
        (tmp_path / 's.yaml').write_text(text)
        return script.load(tmp_path / 's.yaml')
    return write


def test_every_key_arrives(load):
    found = load(WHOLE)
    assert (found.start_s, found.start_error, found.context_tokens) == (0.5, 'no battery', 100)
    assert found.times == Times(1, 0.5, 0.25, 0.125)
    first, second = found.answers
    assert first.when.pattern == 'dock'
    assert (first.text, first.uses, first.ends, first.predicted_tokens, first.pessimistic_tokens, first.prompt_s,
            first.token_s, first.pauses, first.fault) == (
        'to the dock', 2, False, 3, 9, 0.1, 0.2, (Pause(3, 2), Pause(1)), Fault('hang'))
    assert second == Answer()


def test_the_shortest_script(load):
    found = load('{format: 1, answers: [{text: "Yes."}]}')
    assert found.times == Times() and found.context_tokens == 8192 and not found.start_error


def test_the_example_is_a_script_with_an_answer_to_everything():
    found = script.load(example_script())
    assert found.find('a prompt that nobody thought of', lambda number: 10 ** 6) is not None
    assert {answer.fault.kind for answer in found.answers if answer.fault} >= {'crash', 'hang'}


def test_the_first_answer_that_fits_and_is_not_used_up(load):
    found = load('''
        format: 1
        answers:
          - {when: '(?i)dock', uses: 2}
          - {when: 'dock'}
          - {when: '^x'}
    ''')
    used = {0: 0}
    assert found.find('to the DOCK', used.get) == 0
    used[0] = 2
    assert found.find('to the dock', used.get) == 1 and found.find('to the DOCK', used.get) is None
    assert found.find('xyz', used.get) == 2


@pytest.mark.parametrize('text, words', [
    ('format: 2\nanswers: [{}]', "line 1: format must be 1; got '2'"),
    ('answers: [{}]', 'must have format, which is missing'),
    ('format: 1', 'must have answers'),
    ('format: 1\nanswers: []', 'line 2: answers must be a list of one item or more'),
    ('format: 1\nanswers:\n  - text: a\n    ends: false\n  - ends: false', 'line 5: answers[1].ends may be false only'),
    ('format: 1\nanswers:\n  - {predicted_tokens: 5, pessimistic_tokens: 4}',
     'line 3: answers[0].pessimistic_tokens must be predicted_tokens (5) or more; got 4'),
    ('format: 1\nanswers:\n  - when: "(a"', "line 3: answers[0].when must be a regular expression; got '(a'"),
    ('format: 1\nanswers:\n  - fault: {kind: fire}', 'answers[0].fault.kind must be one of crash, hang, error'),
    ('format: 1\nanswers:\n  - fault: {after_tokens: 1}', 'answers[0].fault must have kind'),
    ('format: 1\nanswers:\n  - {text: a b, fault: {kind: crash,\n      after_tokens: 3}}',
     'line 4: answers[0].fault.after_tokens must be at most 2, the number of words in text; got 3'),
    ('format: 1\nanswers:\n  - {text: a, pauses: [{seconds: 1}, {seconds: 1, after_tokens: 2}]}',
     'answers[0].pauses[1].after_tokens must be at most 1'),
    ('format: 1\nanswers:\n  - pauses: [{after_tokens: 0}]', 'answers[0].pauses[0] must have seconds'),
    ('format: 1\nanswers:\n  - {uses: 0}', 'answers[0].uses must be a whole number from 1'),
    ('format: 1\ntimes: {token: 1}\nanswers: [{}]', 'line 2: times.token is not known; here may be prompt_s'),
    ('format: 1\ncontext_tokens: 8\nanswers: [{}]', 'context_tokens must be a whole number from 64'),
])
def test_what_cannot_be_is_refused_with_its_line(load, tmp_path, text, words):
    with pytest.raises(YamlError) as caught:
        load(text)
    assert str(caught.value).startswith(f'{tmp_path}/s.yaml, line ') and words in str(caught.value)


def test_every_fault_may_stand_in_a_script(load):
    for kind in FAULTS:
        assert load(f'{{format: 1, answers: [{{fault: {{kind: {kind}}}}}]}}').answers[0].fault == Fault(kind)


@pytest.mark.parametrize('text, n', [('', 0), ('  ', 0), ('one', 1), (' one\ttwo\n\nthree ', 3)])
def test_a_token_is_a_word_with_the_space_before_it(text, n):
    tokens = tokens_of(text)
    assert len(tokens) == n and ''.join(tokens) == text.rstrip()
