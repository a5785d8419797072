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

"""How long the server's answers take: learned from those that came, with bounds that are exceeded at a stated rate.

An answer's time is that to its first token, and one time per further token. The first is told apart by the length of
the prompt and by how long no answer had come before, because a server that was idle may have put its model away, and
connections close. Plain arithmetic, because the node imports no numpy here.

The bounds are conformal (Vovk et al., 2005; Angelopoulos and Bates, arXiv 2107.07511): of n earlier scores the k-th
smallest, k = ceil((n + 1) * (1 - rate)), which the next one exceeds with probability `rate` at most if it is
exchangeable with them. Fewer than 1 / rate - 1 scores carry no bound; then it is infinite. An answer that was not
waited for any more is no reason to leave it out: that would leave the slow and the long ones out. What it would have
been counts as infinite in a bound; the usual length is the median that Kaplan and Meier (1958) estimate.
"""
from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from timebill_ros.codes import Verdict

WINDOW = 300  # scores of a kind that are remembered
LINE = 48  # answers that the line of first tokens is laid through
SILENCES_S = (5.0, 60.0, 600.0, 3600.0)  # since the last answer: the kinds of silence that are told apart
LEAST_S = 1e-3  # no first token is expected sooner, so that ratios are finite


def upper_bound(scores: Sequence[float], rate: float) -> float:
    """Return what the next score exceeds with probability `rate` at most; infinite where the scores are too few."""
    k = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return sorted(scores)[max(k, 1) - 1] if k <= len(scores) else math.inf


def line_through(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return (value at 0, slope) of the line through points: median of slopes, neither below 0 (Theil-Sen)."""
    slopes = [(y - y_0) / (x - x_0) for i, (x_0, y_0) in enumerate(points) for x, y in points[i + 1:] if x != x_0]
    slope = max(0.0, median(slopes)) if slopes else 0.0
    return max(0.0, median(y - slope * x for x, y in points)), slope


def usual_length(lengths: Sequence[tuple[float, bool]]) -> float:
    """Return the median of (tokens, whether the answer was whole); infinite where more than half are longer than known.

    An answer that was not whole is longer than its tokens (Kaplan and Meier, 1958).
    """
    left, share = len(lengths), 1.0
    for n, is_whole in sorted(lengths, key=lambda length: (length[0], not length[1])):
        if is_whole:
            share *= 1 - 1 / left
            if share <= 0.5 + 1e-9:
                return n
        left -= 1
    return math.inf


@dataclass(frozen=True)
class Expectation:
    """Seconds until an answer is complete: in the usual case, and in the worst; NaN where too little is known.

    `least_s`: as `expected_s`, but where the usual length is not known, it is the time to the first token.
    """

    expected_s: float = math.nan
    wcet_s: float = math.nan
    least_s: float = math.nan

    def verdict(self, left_s: float) -> Verdict:
        """Return what is to be expected where `left_s` seconds are left."""
        if self.wcet_s <= left_s:
            return Verdict.FITS
        if math.isnan(self.expected_s):
            return Verdict.UNKNOWN
        return Verdict.AT_RISK if self.expected_s <= left_s else Verdict.INFEASIBLE


class ServedTimes:
    """What the answers so far say. Characters are those of the prompt, tokens the pieces that the server sent."""

    def __init__(self):
        self._points: deque[tuple[float, float]] = deque(maxlen=LINE)  # (characters, seconds to the first token)
        self._line = (0.0, 0.0)
        # Seconds to the first token over what the line said before, by the kind of silence; infinite: it never came.
        # So are the seconds per token of an answer that broke off.
        self._ratios = [deque(maxlen=WINDOW) for _ in range(len(SILENCES_S) + 1)]
        self._per_token: deque[float] = deque(maxlen=WINDOW)
        self._lengths: deque[tuple[float, bool]] = deque(maxlen=WINDOW)  # (tokens, whether the answer was whole)
        self._whole: deque[float] = deque(maxlen=WINDOW)  # seconds of complete answers

    @property
    def usual_s(self) -> float:
        """The median time of complete answers; 0 before the first."""
        return median(self._whole) if self._whole else 0.0

    def _first_s(self, characters: int) -> float:
        at_0, slope = self._line
        return max(LEAST_S, at_0 + slope * characters)

    def first_token(self, characters: int, silence_s: float, first_s: float) -> None:
        """Learn from the seconds that a first token took after `silence_s` seconds without an answer."""
        if self._points:
            self._ratios[_kind(silence_s)].append(first_s / self._first_s(characters))
        self._points.append((characters, first_s))
        self._line = line_through(list(self._points))

    def none_came(self, characters: int, silence_s: float, waited_s: float) -> None:
        """Learn from a goal for which `waited_s` passed without a first token; nothing where that is usual."""
        if self._points and waited_s > self._first_s(characters) * self._usual_ratio(silence_s):
            self._ratios[_kind(silence_s)].append(math.inf)

    def failed(self, silence_s: float, *, began: bool) -> None:
        """Learn that an answer never came; `began`: its first token had."""
        (self._per_token if began else self._ratios[_kind(silence_s)]).append(math.inf)

    def tokens(self, n: int, seconds: float) -> None:
        """Learn from `n` tokens that came in the `seconds` after the first of them."""
        if n > 1:
            self._per_token.append(seconds / (n - 1))

    def cut_off(self, n: int, seconds: float, silent_s: float) -> None:
        """Learn from an answer that was not waited for: `n` tokens in `seconds`, and none for `silent_s` after them."""
        self._lengths.append((n, False))
        pause_s, usual_s = (seconds + silent_s) / n, _usual(self._per_token)  # the next pause is not over yet
        if n > 1:
            self._per_token.append(max(seconds / (n - 1), pause_s))
        elif usual_s is not None and pause_s > usual_s:
            self._per_token.append(pause_s)

    def complete(self, n: int, seconds: float, *, at_limit: bool) -> None:
        """Learn from a complete answer of `n` tokens; `at_limit`: the goal's own limit ended it."""
        self._lengths.append((n, not at_limit))
        self._whole.append(seconds)

    def expect(self, characters: int, silence_s: float, most_tokens: int, miss_rate: float) -> Expectation:
        """Return what to expect of a goal that is sent now and may have `most_tokens` tokens.

        The three bounds may fail together: each takes a third of `miss_rate`. A length needs none where the goal's own
        limit is the bound.
        """
        if not self._points:
            return Expectation()
        first_s, rate, ratios = self._first_s(characters), miss_rate / 3, self._ratios[_kind(silence_s)]
        most = min(most_tokens, upper_bound([n if is_whole else math.inf for n, is_whole in self._lengths], rate))
        wcet_s = first_s * upper_bound(ratios, rate) + (most - 1) * upper_bound(self._per_token, rate) \
            if most > 1 else first_s * upper_bound(ratios, rate)
        usual, begins_s = usual_length(self._lengths), first_s * self._usual_ratio(silence_s)
        expected_s = begins_s + (min(most_tokens, usual) - 1) * (_usual(self._per_token) or 0.0)
        return Expectation(expected_s, wcet_s if math.isfinite(wcet_s) else math.nan,
                           expected_s if math.isfinite(usual) else begins_s)

    def state(self) -> dict:
        """Return what is worth keeping as JSON-ready data; null is what never came, -n a length of more than n."""
        return {'points': [list(point) for point in self._points],
                'ratios': [_plain(ratios) for ratios in self._ratios], 'per_token': _plain(self._per_token),
                'lengths': _plain([n if is_whole else -n for n, is_whole in self._lengths]),
                'whole': _plain(self._whole)}

    @classmethod
    def of(cls, state: dict) -> ServedTimes:
        """Return what `state` has kept. ValueError, KeyError, TypeError or OverflowError for what is none."""
        made = cls()
        for characters, seconds in state['points']:
            made._points.append((_number(characters), _number(seconds)))
        if made._points:
            made._line = line_through(list(made._points))
        for scores, values in zip([*made._ratios, made._per_token],
                                  [*state['ratios'], state['per_token']], strict=True):
            scores.extend(math.inf if value is None else _number(value) for value in values)
        made._lengths.extend(map(_length, state['lengths']))
        made._whole.extend(map(_number, state['whole']))
        return made

    def _usual_ratio(self, silence_s: float) -> float:
        """Return the median ratio of first tokens that came after such a silence, or the longest shorter one known."""
        for kind in range(_kind(silence_s), -1, -1):
            if (ratio := _usual(self._ratios[kind])) is not None:
                return ratio
        return 1.0


def _usual(scores: Sequence[float]) -> float | None:
    """Return the median of what came at all; None where nothing did."""
    came = [score for score in scores if math.isfinite(score)]
    return median(came) if came else None


def _kind(silence_s: float) -> int:
    return bisect_right(SILENCES_S, silence_s)


def _plain(scores: Sequence[float]) -> list[float | None]:
    return [score if math.isfinite(score) else None for score in scores]


def _number(value: float) -> float:
    """Return a number that was read. ValueError or TypeError where it is no seconds, ratio or length."""
    if isinstance(value, bool) or not 0 <= value < math.inf:
        raise ValueError(f'{value!r} is no time and no length')
    return float(value)


def _length(value: float | None) -> tuple[float, bool]:
    """Return a length that was read, and whether the answer was whole; null is one of which nothing is known."""
    if value is None:
        return math.inf, False
    return _number(-value if value < 0 else value), value >= 0
