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

"""One answer under a grammar, without a model: masks, forced tokens, and what is left of it at a cut."""
import json

import jsonschema
import numpy as np
import pytest
import torch
from answer_forms import EOS, PIECES, SCHEMAS, TEXTS, TOKENS, vocabulary

pytest.importorskip('llguidance')
from timebill_ros.codes import FinishReason, OnCut  # noqa: E402
from timebill_ros.inference.grammars.compiler import Grammars  # noqa: E402
from timebill_ros.request import Request, Timing  # noqa: E402

GRAMMARS = Grammars(vocabulary(), {EOS})
LOGITS = torch.zeros(len(TOKENS) + 3)


def answer(**fields):
    request = Request('id', 0.0, 1.0, prompt='p', **fields)
    return GRAMMARS.collect(GRAMMARS.start(request), lambda: False)


def ids(text: str) -> list[int]:
    return list(text.encode())


def test_the_mask_is_as_long_as_the_logits_and_allows_no_token_beyond_the_vocabulary():
    made = answer(regex='ab|ac')
    mask = made.mask(LOGITS)
    assert mask.dtype == torch.bool and mask.shape == LOGITS.shape
    allowed = {TOKENS[i] for i in np.flatnonzero(mask.numpy())}
    assert allowed == {b'a', b'ab'}
    made.accept(ord('a'))
    assert {TOKENS[i] for i in np.flatnonzero(made.mask(LOGITS).numpy())} == {b'b', b'c'}
    assert made.mask_s > 0


def test_forced_tokens_and_the_end():
    made = answer(choices=['kitchen', 'hall'])
    made.accept(ord('h'))
    assert made.forced() == [*ids('all'), EOS]
    made = answer(choices=['go', 'go home'])
    made.accept(ord('g'))
    assert made.forced() == ids('o')  # then it may end
    mask = made.mask(LOGITS)
    assert mask[EOS] and mask[ord(' ')] and mask.sum() == 2


def test_an_answer_starts_anew_each_time():
    for _ in range(3):
        made = answer(regex='abc')
        made.accept(ord('a'))
        assert made.forced()[:2] == ids('bc')


@pytest.mark.parametrize('reason', [FinishReason.EOS, FinishReason.CANCELED])
def test_an_answer_that_was_not_cut_is_left_alone(reason):
    made = answer(response_schema=TEXTS['flat'])
    assert made.ended(ids('{"na'), reason, OnCut.CLOSE) == ('{"na', None, 0)


@pytest.mark.parametrize('reason', [FinishReason.DEADLINE, FinishReason.LENGTH, FinishReason.CAPPED])
def test_a_cut_answer_is_completed(reason):
    made = answer(response_schema=TEXTS['flat'])
    cut = ids('{"name": "a\u597d", "speed": 0.2')
    assert made.ended(cut, reason, OnCut.DROP) == ('{"name": "a\u597d"}', 1, 1)
    assert made.ended(cut, reason, OnCut.CLOSE) == ('{"name": "a\u597d", "speed": 0.2}', 1, 0)
    assert made.ended(ids('{"na'), reason, OnCut.DROP) == ('{"na', None, 0)
    text, added, _ = made.ended(ids('{"na'), reason, OnCut.CLOSE)
    assert json.loads(text) == {'name': ''} and text[:-added] == '{"na'


def test_a_token_that_holds_half_a_character_is_no_harm():
    made = answer(response_schema=TEXTS['flat'])
    half = TOKENS.index('\U0001f916'.encode()[:2])
    text, added, _ = made.ended([*ids('{"name": "a'), half], FinishReason.DEADLINE, OnCut.CLOSE)
    assert (text, added) == ('{"name": "a"}', 2)


@pytest.mark.parametrize('name', SCHEMAS)
def test_cuts_of_answers_in_pieces(name):
    """As a model writes them: pieces of several characters, some of them halves."""
    draw = torch.Generator().manual_seed(len(name))
    made, tokens = answer(response_schema=TEXTS[name]), []
    liked = torch.tensor([float(i >= len(TOKENS) - len(PIECES) - 3) for i in range(len(LOGITS))])
    for _ in range(60):
        mask = made.mask(LOGITS)
        token = int(torch.multinomial(mask * (0.02 + liked), 1, generator=draw))
        if token == EOS:
            break
        made.accept(token)
        tokens.append(token)
        text, added, _ = made.completed(tokens, OnCut.CLOSE)
        jsonschema.validate(json.loads(text), SCHEMAS[name] or {'type': 'object'})
        assert 0 <= added <= len(text)
        left = made.completed(tokens, OnCut.DROP)
        if left is not None:
            jsonschema.validate(json.loads(left[0]), SCHEMAS[name] or {'type': 'object'})
            assert made.written(tokens).decode(errors='replace').startswith(left[0][:len(left[0]) - left[1]])
    assert tokens


def test_the_account():
    made, timing = answer(regex='a+'), Timing(generated_tokens=9)
    made.n_forced, made.mask_s = 4, 0.5
    made.n_stepped, made.widths = 6, [3, 2]  # of nine tokens one came from prefill, and two were forced at the end
    assert made.account(timing, 9, 0.25, lambda width: 0.125 * width) == 2 * 0.25 + 3 * 0.25 - 0.625
    assert made.account(timing, 7, 0.25, lambda width: (width - 1) * 0.25) == 0.0, 'cut, and one by one'
    assert (timing.forced_tokens, timing.mask_s) == (4, 0.5)
