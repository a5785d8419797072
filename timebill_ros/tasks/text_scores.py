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

"""Scores of answers in plain text, each from 0 (nothing right) to 1.

A scorer is a function here and a row in SCORERS. It is given the text, the accepted answers, and the classes where the
task has some; an empty text scores 0. Where several answers are accepted, the best one counts (in `lines` each counts).
"""
from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from timebill_ros.tasks.common_subsequence import longest_common_subsequence

_PUNCTUATION = str.maketrans('', '', string.punctuation)
_ARTICLES = re.compile(r'\b(a|an|the)\b')
_WORD = re.compile(r'[^\W_]+')


def normalized(text: str) -> str:
    """Return `text` as answers to questions are compared: without case, punctuation, articles and extra spaces.

    This is the normalization of SQuAD's evaluation (arXiv 1606.05250), which LongBench and "Lost in the Middle" use.
    """
    return ' '.join(_ARTICLES.sub(' ', text.lower().translate(_PUNCTUATION)).split())


def subspan(text: str, answers: Sequence[str], classes: Sequence[str] = ()) -> float:
    """Return 1 where an accepted answer occurs in the text, both normalized ("Lost in the Middle", arXiv 2307.03172).

    It may occur within a word, so that a number with its unit is found.
    """
    found = normalized(text)
    return float(any(wanted in found for wanted in map(normalized, answers) if wanted))


def f1(text: str, answers: Sequence[str], classes: Sequence[str] = ()) -> float:
    """Return the F1 of the normalized words, as bags: LongBench's score for questions (arXiv 2308.14508).

    Precision is the share of the text's words that the answer holds, recall the reverse.
    """
    given = Counter(normalized(text).split())
    return max((_f_of(sum((given & wanted).values()), given.total(), wanted.total())
                for wanted in (Counter(normalized(answer).split()) for answer in answers)), default=0.0)


def rouge_l(text: str, answers: Sequence[str], classes: Sequence[str] = ()) -> float:
    """Return ROUGE-L's F (Lin, 2004): the F1 of the longest common subsequence of words; case and signs are ignored."""
    given = _WORD.findall(text.lower())
    return max((_f_of(longest_common_subsequence(given, wanted), len(given), len(wanted))
                for wanted in (_WORD.findall(answer.lower()) for answer in answers)), default=0.0)


def lines(text: str, answers: Sequence[str], classes: Sequence[str] = ()) -> float:
    """Return the share of `answers` that stand as lines of the text; spaces and case are ignored.

    Only whole lines count, so the line that a deadline cut is wrong. A line too many costs nothing.
    """
    given = {_bare(line) for line in text.splitlines()}
    return sum(_bare(answer) in given for answer in answers) / len(answers)


def choice(text: str, answers: Sequence[str], classes: Sequence[str] = ()) -> float:
    """Return 1 / the number of classes that the text names, where the right one is among them: LongBench's for trec.

    A class whose name is only a part of the right one does not count as named.
    """
    def of(answer: str) -> float:
        named = [name for name in classes if name in text and (name == answer or name not in answer)]
        return 1 / len(named) if answer in named else 0.0
    return max(map(of, answers), default=0.0)


def _f_of(common: int, n_given: int, n_wanted: int) -> float:
    """Return the harmonic mean of common / n_given and common / n_wanted; 0 where nothing is common."""
    return 2 * common / (n_given + n_wanted) if common else 0.0


def _bare(line: str) -> str:
    return ''.join(line.split()).lower()


# The name of a metric, as task files have it -> its scorer: (text, answers, classes) -> 0 to 1.
SCORERS: dict[str, Callable[[str, Sequence[str], Sequence[str]], float]] = {
    'subspan': subspan, 'f1': f1, 'rouge_l': rouge_l, 'lines': lines, 'choice': choice}
