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

"""Streamed text equals the decoded whole, and stop strings are found wherever tokens end."""
import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from timebill_ros.inference.text import StopStrings, TextStream, decode

SENTENCES = [
    'Take the red cup to the kitchen, then open the drawer.',
    'Bring 3 cups — naïve façade, Übergröße!\n\n  Indented line.\n',
    '把红色的杯子拿到厨房,然后打开抽屉。谢谢!',
    '🤖👩‍👩‍👧‍👦 done 🇩🇪🎉🎉 ok',
    'a\n\n\nb \n c\t\td',
]


def byte_level():
    """Too few merges to spell Chinese or emoji in one token: characters come apart into bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=['<end>'], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token='<end>')


def metaspace():
    """As in SentencePiece: a space is part of the word, and decoding strips the first one."""
    tokenizer = Tokenizer(models.BPE(unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(SENTENCES, trainers.BpeTrainer(
        vocab_size=200, special_tokens=['<unk>', '<end>'], show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token='<end>', unk_token='<unk>')


def word_level():
    """One token per word; decoding joins them with spaces."""
    tokenizer = Tokenizer(models.WordLevel(unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(SENTENCES, trainers.WordLevelTrainer(
        special_tokens=['<unk>', '<end>'], show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token='<end>', unk_token='<unk>')


TOKENIZERS = {make.__name__: make() for make in (byte_level, metaspace, word_level)}
BYTES = TOKENIZERS['byte_level']
ENDLESS = 'go on. ' * 30


@pytest.mark.parametrize('tokenizer', TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize('sentence', [*SENTENCES, ''.join(SENTENCES), ENDLESS])
@pytest.mark.parametrize('most_at_once', [1, 3, 50])
def test_pieces_add_up_to_the_whole(tokenizer, sentence, most_at_once):
    """However many tokens come between two looks, as when a slow stream follows a fast loop."""
    rng = random.Random(0)
    ids = tokenizer.encode(sentence, add_special_tokens=False)
    buffer = ids + [0] * 10  # allocated beyond what has been generated, as the decode loop does
    stream, pieces, n = TextStream(tokenizer), [], 0
    while n < len(ids):
        n = min(len(ids), n + rng.randint(1, most_at_once))
        pieces.append(stream.advance(buffer, n, last=n == len(ids)))
        assert decode(tokenizer, ids).startswith(''.join(pieces))
    assert ''.join(pieces) == decode(tokenizer, ids)
    assert stream.advance(buffer, n) == ''  # nothing comes twice


@pytest.mark.parametrize('tokenizer', TOKENIZERS.values(), ids=TOKENIZERS)
def test_pieces_of_nonsense_add_up_too(tokenizer):
    """Random ids: bytes that make no character, special tokens in between."""
    rng = random.Random(1)
    for _ in range(30):
        ids = [rng.randrange(len(tokenizer)) for _ in range(40)]
        stream = TextStream(tokenizer)
        pieces = [stream.advance(ids, n, last=n == len(ids)) for n in range(1, len(ids) + 1)]
        assert ''.join(pieces) == decode(tokenizer, ids)


@pytest.mark.parametrize('tokenizer', TOKENIZERS.values(), ids=TOKENIZERS)
def test_special_tokens_have_no_text(tokenizer):
    ids = tokenizer.encode('open the drawer.', add_special_tokens=False)
    marked = [tokenizer.eos_token_id, *ids, tokenizer.eos_token_id]
    stream = TextStream(tokenizer)
    assert ''.join(stream.advance(marked, n) for n in range(1, len(marked) + 1)) == decode(tokenizer, ids)


def test_half_a_character_is_held_back():
    ids = BYTES.encode('🦊', add_special_tokens=False)
    assert len(ids) > 1
    stream = TextStream(BYTES)
    assert [stream.advance(ids, n) for n in range(1, len(ids) + 1)] == [''] * (len(ids) - 1) + ['🦊']


def test_a_character_that_never_ends_is_given_out_at_the_end():
    ids = BYTES.encode('ok 🦊', add_special_tokens=False)[:-1]
    stream = TextStream(BYTES)
    assert stream.advance(ids, len(ids)) == ''
    assert stream.advance(ids, len(ids), last=True) == decode(BYTES, ids)


def test_the_cost_of_a_piece_does_not_grow():
    """Each look decodes only the last few tokens, whatever came before."""
    class Counting:
        decoded = 0

        def decode(self, ids, **options):
            self.decoded = max(self.decoded, len(ids))
            return BYTES.decode(ids, **options)

    ids, counting = BYTES.encode(ENDLESS, add_special_tokens=False), Counting()
    stream = TextStream(counting)
    for n in range(1, len(ids) + 1):
        stream.advance(ids, n)
    assert len(ids) > 100 and counting.decoded < 10


@pytest.mark.parametrize(('tokenizer', 'text', 'stop', 'kept'), [
    (BYTES, 'Take the red cup.\nThen', ['\n'], 'Take the red cup.'),
    (BYTES, 'Take the red cup.\n\nThen', ['\n\n'], 'Take the red cup.'),
    (BYTES, 'Take the red cup', ['red cup'], 'Take the '),
    (BYTES, 'xxSTOP and END', ['END', 'STOP', 'nope'], 'xx'),
    (BYTES, 'aaab then', ['aab'], 'a'),
    (BYTES, 'ab', ['b', 'ab'], ''),
    (BYTES, 'STOP first', ['STOP'], ''),
    (BYTES, '好的🎉🎉完', ['🎉'], '好的'),
    (BYTES, '好的🎉🎉完', ['🎉🎉完'], '好的'),
    (BYTES, 'much text before it, more than the longest stop string. ' * 3 + 'STOP', ['STOP', 'x' * 20],
     'much text before it, more than the longest stop string. ' * 3),
    (TOKENIZERS['word_level'], 'the red cup to the kitchen,', ['cup to'], 'the red '),
    (TOKENIZERS['word_level'], 'the red cup to the kitchen,', ['d c'], 'the re'),
])
def test_stop_strings_across_token_borders(tokenizer, text, stop, kept):
    ids = tokenizer.encode(text, add_special_tokens=False)
    stops = StopStrings(tokenizer, stop)
    n = next(n for n in range(1, len(ids) + 1) if stops.hit(ids, n))
    found = decode(tokenizer, ids[:n])
    assert any(s in found for s in stop)
    assert not any(s in decode(tokenizer, ids[:n - 1]) for s in stop)  # at the first token that completes one
    assert stops.cut(found) == kept


@pytest.mark.parametrize('stop', [[], ['absent'], ['Take the red cup to the kitchen, then open the drawer. ']])
def test_no_stop_string_no_hit(stop):
    ids = BYTES.encode(SENTENCES[0], add_special_tokens=False)
    stops = StopStrings(BYTES, stop)
    assert not any(stops.hit(ids, n) for n in range(1, len(ids) + 1))
    assert stops.cut(SENTENCES[0]) == SENTENCES[0]
