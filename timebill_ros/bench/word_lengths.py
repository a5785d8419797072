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

"""Lengths predicted from the words of a prompt and its length: what no language model is needed for.

TF-IDF of words and pairs of words (sublinear counts, each prompt scaled to length 1), with the logarithm of the
prompt's tokens beside it, goes through the same ridge regression on a CDF as hidden states do
(length/hidden_state_head.py); only the words are not standardised, which would make rare ones loud. How much the
prompt's length counts beside the words is chosen like everything else, by the CRPS of labels left out.
"""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from timebill_ros.length.hidden_state_head import fit
from timebill_ros.length.label_grid import Labels, from_cdf
from timebill_ros.length.length_distribution import LengthDistribution

LEAST_PROMPTS = 2  # that a word is in; of one that is in a single prompt nothing is learned
MOST_WORDS = 20_000  # the most frequent ones; bounds the memory
LENGTH_WEIGHTS = (0.0, 0.3, 1.0)  # deviation of the length's feature, relative to that of all words together
_WORD = re.compile(r'\w+|[^\w\s]')


def terms(text: str) -> Counter[str]:
    """Count words, signs and pairs of them."""
    words = _WORD.findall(text.lower())
    return Counter(words) + Counter(f'{one} {other}' for one, other in zip(words, words[1:], strict=False))


class WordLengths:
    """Learned from `texts` and their tokens `prompt_tokens`, with the labels of their responses."""

    def __init__(self, texts: Sequence[str], prompt_tokens: Sequence[int], labels: Labels):
        counts = [terms(text) for text in texts]
        found = Counter(term for one in counts for term in one)
        kept = [term for term, n in found.most_common(MOST_WORDS) if n >= LEAST_PROMPTS]
        self._places = {term: place for place, term in enumerate(kept)}
        self._idf = np.log((1 + len(texts)) / (1 + np.array([found[term] for term in kept]))) + 1
        words, logs = np.array([self._words(one) for one in counts]), np.log(prompt_tokens)
        self._middle, self._spread = logs.mean(), logs.std() or 1.0
        whole = float(np.sqrt(words.var(axis=0).sum())) or 1.0
        heads = []
        for weight in LENGTH_WEIGHTS:
            self._scale = weight * whole
            features = np.concatenate([words, self._length(logs)[:, None]], axis=1, dtype=np.float32)
            heads.append((self._scale, fit(features, labels, standardised=False)))
        self._scale, self._head = max(heads, key=lambda pair: pair[1].gain[0])
        self._marginal = from_cdf(labels.marginal(), labels.bucket_size)

    def predict(self, text: str, prompt_tokens: int) -> LengthDistribution:
        """Return the length distribution of the response to a prompt."""
        length = self._length(np.log([prompt_tokens]))
        features = np.concatenate([self._words(terms(text)), length], dtype=np.float32)
        return self._head.predict(features, self._marginal)

    def _words(self, counts: Counter[str]) -> np.ndarray:
        """Return the TF-IDF of a prompt, float32 [words], of length 1."""
        row = np.zeros(len(self._places), dtype=np.float32)
        for term, n in counts.items():
            if (place := self._places.get(term)) is not None:
                row[place] = (1 + np.log(n)) * self._idf[place]
        return row / (np.linalg.norm(row) or 1.0)

    def _length(self, logs: np.ndarray) -> np.ndarray:
        return self._scale * (logs - self._middle) / self._spread
