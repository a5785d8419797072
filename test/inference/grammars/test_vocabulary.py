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

"""Vocabularies of real kinds of tokenizers, and what is said where there is no library or another kind."""
import sys

import pytest
import tiny_models
from byte_tokenizers import KINDS

from timebill_ros.inference.grammars import vocabulary
from timebill_ros.inference.grammars.vocabulary import GrammarsUnavailable, of_tokenizer, single_bytes

TEXT = '{"room": "k\u00fcche \u597d \U0001f916"}'


@pytest.mark.parametrize('make', KINDS.values(), ids=KINDS)
def test_tokens_stand_for_bytes(make):
    pytest.importorskip('llguidance')
    tokenizer = make()
    found = of_tokenizer(tokenizer, len(tokenizer) + 7, {tokenizer.eos_token_id})
    assert found.vocab_size == len(tokenizer) + 7  # a model may have logits of no token
    ids = found.tokenize_str(TEXT)
    assert found.decode_bytes(ids).decode() == TEXT
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert text == TEXT


@pytest.mark.parametrize('make', KINDS.values(), ids=KINDS)
def test_whatever_is_drawn_under_the_mask_is_what_is_decoded(make):
    """The grammar's bytes are the text that the client gets."""
    llguidance = pytest.importorskip('llguidance')
    import numpy as np
    tokenizer = make()
    found = of_tokenizer(tokenizer, len(tokenizer), {tokenizer.eos_token_id})
    matcher = llguidance.LLMatcher(found, llguidance.LLMatcher.grammar_from_json_schema('{"type": "object"}'))
    draw, ids = np.random.default_rng(0), []
    for _ in range(80):
        mask = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder='little')[:len(tokenizer)]
        allowed = [i for i in np.flatnonzero(mask) if i != tokenizer.eos_token_id]
        if not allowed:
            break
        ids.append(int(draw.choice(allowed)))
        assert matcher.consume_token(ids[-1])
    assert len(ids) > 10
    assert tokenizer.decode(ids).startswith(found.decode_bytes(ids).decode(errors='ignore')[:10])


def test_a_tokenizer_that_writes_words_is_refused():
    pytest.importorskip('llguidance')
    with pytest.raises(GrammarsUnavailable, match='writes words'):
        of_tokenizer(tiny_models.tokenizer(), 128, {1})


def test_without_the_library_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'llguidance', None)
    with pytest.raises(GrammarsUnavailable, match=r'pip install "timebill_ros\[structured\]"'):
        vocabulary.library()


def test_single_bytes():
    pytest.importorskip('llguidance')
    found = single_bytes()
    assert found.vocab_size == vocabulary.N_BYTES + 1
    assert found.decode_bytes(list(TEXT.encode())).decode() == TEXT
