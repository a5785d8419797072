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

"""Lengths from the words of a prompt: what they tell is found, and what they do not tell is not."""
import numpy as np
import pytest

from timebill_ros.bench import word_lengths
from timebill_ros.bench.word_lengths import WordLengths, terms
from timebill_ros.length.label_grid import Labels, bucket_size_for

WORDS = 'the robot goes to a shelf and brings one mug from it while the other waits'.split()


def prompts(n, told_by, seed=0):
    """Prompts with their tokens and the lengths of answers, which a word, the prompt's length or nothing tells."""
    draw = np.random.default_rng(seed)
    texts, tokens, lengths = [], [], []
    for _ in range(n):
        is_long = bool(draw.integers(2))
        words = list(draw.choice(WORDS, 12))
        if told_by == 'words':
            words[int(draw.integers(12))] = 'summarize' if is_long else 'name'
        texts.append(' '.join(words))
        tokens.append(int(draw.integers(400, 500) if is_long and told_by == 'length' else draw.integers(20, 30)))
        lengths.append(int((100 if is_long else 10) + draw.integers(10)))
    return texts, tokens, np.array(lengths)


def test_terms_are_words_signs_and_pairs():
    assert terms('Find it, find') == {'find': 2, 'it': 1, ',': 1, 'find it': 1, 'it ,': 1, ', find': 1}


@pytest.mark.parametrize(('told_by', 'better'), [('words', True), ('length', True), ('nothing', False)])
def test_what_tells_lengths_is_learned(told_by, better):
    texts, tokens, lengths = prompts(150, told_by)
    labels = Labels(lengths, np.ones(150, dtype=bool), bucket_size_for(lengths))
    learned = WordLengths(texts, tokens, labels)
    texts, tokens, lengths = prompts(60, told_by, seed=1)
    errors = [abs(learned.predict(text, n).median() - length)
              for text, n, length in zip(texts, tokens, lengths, strict=True)]
    constant = abs(np.median(lengths) - lengths).mean()
    assert (np.mean(errors) < 0.5 * constant) == better


def test_words_of_one_prompt_and_too_many_are_left_out(monkeypatch):
    monkeypatch.setattr(word_lengths, 'MOST_WORDS', 3)
    texts = ['find mug', 'find saw', 'find cup', 'list mug', 'list saw', 'list cup', 'once upon', 'find mug', 'find it']
    labels = Labels(np.arange(1, 10), np.ones(9, dtype=bool), 1)
    learned = WordLengths(texts, [3] * 9, labels)
    assert len(learned._places) == 3 and 'once' not in learned._places
    assert learned.predict('words that nobody has seen', 3).probabilities.sum() == pytest.approx(1)
