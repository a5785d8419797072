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
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from timebill_ros.inference.text import StopStrings, TextStream, decode
from timebill_ros.inference.tokenizer import load_tokenizer

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


def byte_fallback(strips: bool):
    """As in SentencePiece with byte fallback: the words of some sentences, and 256 tokens of one byte for the rest.

    `strips`: decoding drops the first space, as for Llama 2 and Mistral; Gemma's keeps it.
    """
    tokens = ['<unk>', '<end>', *(f'<0x{byte:02X}>' for byte in range(256))]
    pieces = sorted(set('▁' + SENTENCES[0].replace(' ', '▁')))
    merges = [(a, b) for a, b in ('th', 'he', '▁t', 'en') if a in pieces and b in pieces]
    tokens += [*pieces, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges, unk_token='<unk>',
                                     fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend('▁')] * strips + [normalizers.Replace(' ', '▁')])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse(), *[decoders.Strip(' ', 1, 0)] * strips])
    tokenizer.add_special_tokens(['<unk>', '<end>'])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token='<end>', unk_token='<unk>')


def llama_2():
    return byte_fallback(strips=True)


def gemma():
    return byte_fallback(strips=False)


def word_piece():
    """As in BERT: the rest of a word begins with ##, and decoding puts a space before every other token."""
    tokenizer = Tokenizer(models.WordPiece(unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(
        vocab_size=150, special_tokens=['<unk>', '<end>'], show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token='<end>', unk_token='<unk>')


def from_files(made):
    """Save a tokenizer and load it as a model's tokenizer is loaded."""
    with tempfile.TemporaryDirectory() as directory:
        made.save_pretrained(directory)
        return load_tokenizer(directory)


TOKENIZERS = {make.__name__: from_files(make()) for make in (
    byte_level, metaspace, word_level, llama_2, gemma, word_piece)}
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


# Characters of one to four bytes, sequences of several characters, and what tokenizers treat in their own way.
CHARACTERS = [*'aT.,\n \u00e9\u00df\u597d\u7684\u2581\u20ac\ufffd', '\U0001f98a', '\U0001f389',
              '\U0001f469\u200d\U0001f467', 'the ', 'cup', '<0x41>', ' n\'t', ' .', '  ']


@pytest.mark.parametrize('name', TOKENIZERS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_deltas_add_up_to_the_result_wherever_looks_and_cuts_fall(name, data):
    """Every split of every character: looks come at any token, and the answer may be cut at any token."""
    tokenizer = TOKENIZERS[name]
    text = ''.join(data.draw(st.lists(st.sampled_from(CHARACTERS), min_size=1, max_size=15)))
    ids = tokenizer.encode(text, add_special_tokens=False)
    for n in range(1, len(ids) + 1):
        looks = data.draw(st.sets(st.integers(1, n), max_size=n)) if n < len(ids) else set(range(1, n + 1))
        stream = TextStream(tokenizer)
        pieces = [stream.advance(ids, look) for look in sorted(looks)]
        result = decode(tokenizer, ids[:n])
        assert result.startswith(''.join(pieces)), 'the last feedback, the rest of the result, would be dropped'
        assert ''.join([*pieces, stream.advance(ids, n, last=True)]) == result
    assert decode(tokenizer, ids) == tokenizer.decode(ids, skip_special_tokens=True,
                                                      clean_up_tokenization_spaces=False)


@pytest.mark.parametrize('name', ['byte_level', 'llama_2', 'gemma'])
@pytest.mark.parametrize('text', ['\u597d\u7684', '\U0001f98a\U0001f389', 'the \u20ac\u00e9', '\u597d' * 9])
def test_a_character_is_streamed_as_soon_as_it_is_complete(name, text):
    """Also in a long run of characters that are spelled in bytes. Half a character costs those before it nothing."""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text, add_special_tokens=False)
    stream, streamed = TextStream(tokenizer), ''
    for n in range(1, len(ids) + 1):
        streamed += stream.advance(ids, n)
        assert '\ufffd' not in streamed
        assert decode(tokenizer, ids[:n]) == streamed
    assert streamed == text


@pytest.mark.parametrize('name', ['llama_2', 'gemma', 'byte_level'])
def test_bytes_that_never_make_a_character_are_not_decoded_again_and_again(name):
    class Counting:
        decoded = 0

        def __init__(self):
            self.backend_tokenizer = TOKENIZERS[name].backend_tokenizer
            self.added_tokens_decoder = TOKENIZERS[name].added_tokens_decoder

        def decode(self, ids, **options):
            self.decoded = max(self.decoded, len(ids))
            return TOKENIZERS[name].decode(ids, **options)

    counting = Counting()
    wrong = 'ÿ' if name == 'byte_level' else '<0xFF>'
    ids = [TOKENIZERS[name].convert_tokens_to_ids(wrong)] * 200
    stream = TextStream(counting)
    pieces = [stream.advance(ids, n, last=n == 200) for n in range(1, 201)]
    assert ''.join(pieces) == '\ufffd' * 200 and counting.decoded < 12


@pytest.mark.parametrize('name', TOKENIZERS)
def test_a_word_after_many_special_tokens_keeps_its_space(name):
    """The tokens before a piece that are decoded with it may all be special, and so have no text."""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode('the cup to the kitchen', add_special_tokens=False)
    ids = [i for token in ids for i in [token, *[tokenizer.eos_token_id] * 8]]
    stream = TextStream(tokenizer)
    assert ''.join(stream.advance(ids, n) for n in range(1, len(ids) + 1)) == decode(tokenizer, ids)


@pytest.mark.parametrize('name', ['byte_level', 'llama_2', 'gemma'])
@pytest.mark.parametrize('stop', [
    '\u7684', '\u597d\u7684', '\U0001f98a\U0001f389', '\u20ac\u7684', 'e\u597d', '\u7684 '])
def test_stop_strings_of_characters_that_come_in_bytes_are_found(name, stop):
    """At the very token that completes one, and with half a character after it too."""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(f'the \u20ac{stop}\u00e9\u20ac cup', add_special_tokens=False)
    stops = StopStrings(tokenizer, [stop])
    n = next(n for n in range(1, len(ids) + 1) if stops.hit(ids, n))
    assert stop in decode(tokenizer, ids[:n]) and stop not in decode(tokenizer, ids[:n - 1])
    assert stops.cut(decode(tokenizer, ids[:n])) == 'the \u20ac'


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


@pytest.mark.parametrize('name', ['byte_level', 'llama_2', 'gemma'])
@pytest.mark.parametrize('text', ['ok \U0001f98a', '\u597d\u7684', 'na\u00efve \u20ac', '\ufffd\U0001f98a'])
def test_half_a_character_at_a_cut_is_in_neither_text_nor_stream(name, text):
    """The answer is cut after each token in turn; what is whole before the cut stays."""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text, add_special_tokens=False)
    for n in range(len(ids) + 1):
        stream = TextStream(tokenizer)
        streamed = ''.join(stream.advance(ids, look) for look in range(1, n + 1))
        whole = decode(tokenizer, ids[:n])
        assert text.startswith(whole) and streamed + stream.advance(ids, n, last=True) == whole
    assert whole == text


@pytest.mark.parametrize('name', ['byte_level', 'llama_2', 'gemma'])
def test_a_replacement_character_of_the_model_stays(name):
    """Only bytes that later ones would complete are left out: not U+FFFD itself, nor bytes that are plainly wrong."""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode('ok \ufffd', add_special_tokens=False)
    assert decode(tokenizer, ids) == 'ok \ufffd'
    lone = tokenizer.convert_tokens_to_ids('\u0122' if name == 'byte_level' else '<0x80>')  # the middle of a character
    assert decode(tokenizer, [*ids[:2], lone]).endswith('\ufffd')


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
