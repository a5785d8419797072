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

"""Estimates that the node makes itself, while the worker is busy: from what the worker has said of its costs.

The node may not import the profile or the tokenizer, and the token loop must not be disturbed, not even by another
thread of the worker: it would take the interpreter from the loop and allocate beside it. So the worker sends plain
tables once it is ready (worker/cost_facts.py), and a few numbers with the end of each request. The node answers from
these at once.

The node cannot count tokens. It takes a bound instead: a tokenizer makes at most one token of each byte of UTF-8. So
an estimate from here is never too short for want of tokens; for ordinary English it assumes about four times too many.
"""
from __future__ import annotations

import math
import re
import unicodedata
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from timebill_ros.codes import Verdict
from timebill_ros.longest_instance import longest_answer
from timebill_ros.request import Request

MOST_BOUNDS = 128  # requests whose bound is at hand, because every estimate asks for all that wait
MOST_MARKS = 32  # in a row: they are put in order in a time that grows with the square of their number
_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)  # of JSON
_EXPONENT = re.compile('[0-9][eE]')
_PLAIN = re.compile(r'[^{}\[\],]+')


@dataclass(frozen=True)
class Estimate:
    """What a request would take; field for field what srv/EstimateTime answers, which says what each means."""

    verdict: Verdict
    prompt_tokens: int
    predicted_tokens: int
    pessimistic_tokens: int
    wcet_without_eviction_s: float
    wcet_with_eviction_s: float
    eviction_ratio: float
    waiting_s: float = 0.0
    is_from_bound: bool = False
    reused_tokens: int = 0


class Waiting(NamedTuple):
    """Seconds until a request could start: as expected, and in the worst case; infinite where nothing bounds that."""

    expected_s: float
    worst_s: float


class Table:
    """A function given at some counts, ascending from 0, and straight between and beyond them."""

    def __init__(self, points: list):
        self._x, self._y = [int(x) for x, _ in points], [float(y) for _, y in points]
        if len(points) < 2 or self._x[0] != 0 or sorted(set(self._x)) != self._x:
            raise ValueError(f'a table needs two or more counts, ascending from 0, got {self._x}')
        self._sums = [0.0]  # of the function over all counts below x[i]
        for x, x_next in zip(self._x, self._x[1:], strict=False):
            self._sums.append(self._sums[-1] + (x_next - x) * (self(x) + self(x_next - 1)) / 2)

    def _segment(self, x: float) -> int:
        return min(max(bisect_right(self._x, x) - 1, 0), len(self._x) - 2)

    def __call__(self, x: float) -> float:
        i = self._segment(x)
        return self._y[i] + (x - self._x[i]) * (self._y[i + 1] - self._y[i]) / (self._x[i + 1] - self._x[i])

    def sum_below(self, n: int) -> float:
        """Return the sum of the function over 0 to n - 1."""
        if n <= 0:
            return 0.0
        i = self._segment(n - 1)
        start = self._x[i]
        return self._sums[i] + (n - start) * (self(start) + self(n - 1)) / 2


class Costs:
    """What requests cost on the worker's device. `facts`: see worker/cost_facts.py.

    KeyError, TypeError or ValueError for facts that cannot be.
    """

    def __init__(self, facts: dict):
        self.prefill, self.step, self.eviction = (Table(facts[name]) for name in ('prefill', 'step', 'eviction'))
        self._draws = {str(kind): float(seconds) for kind, seconds in facts['draws'].items()}
        self.max_context = int(facts['max_context'])
        self._min_kept, self._max_ratio = int(facts['min_kept']), float(facts['max_ratio'])
        self._window = facts['window']  # prompts of so many tokens are kept whole; None: nothing is ever evicted
        self._template_tokens, self._message_tokens = int(facts['template_tokens']), int(facts['message_tokens'])
        self._tools_tokens = int(facts.get('tools_tokens', 0))
        self._thinks = frozenset(map(int, facts.get('thinks', ())))  # values of Request.thinking
        self._closing_tokens = int(facts.get('closing_tokens', 0))
        self._bounds: OrderedDict[int, tuple[weakref.ref, int]] = OrderedDict()  # by identity of a request

    def token_bound(self, request: Request) -> int:
        """Return an upper bound on the tokens of the prompt, at most as many as the context takes."""
        known = self._bounds.get(id(request))
        if known is None or known[0]() is not request:
            known = self._bounds[id(request)] = weakref.ref(request), self._bound(request)
            while len(self._bounds) > MOST_BOUNDS:
                self._bounds.popitem(last=False)
        return known[1]

    def _bound(self, request: Request) -> int:
        most = self.max_context - 1
        n = self._template_tokens + len(request.messages) * self._message_tokens
        n += self._tools_tokens if request.tools else 0
        for text, is_json in _texts(request):
            if n + len(text) >= most:
                return most
            n += _written(text, most - n) if is_json else _bytes(text)
        return min(n, most)

    def thinks(self, request: Request) -> bool:
        """Whether an answer begins with a thinking section, which may take all the time that the answer leaves."""
        return bool(request.messages) and request.thinking in self._thinks

    def shortest_section(self, request: Request) -> int:
        """Return the tokens of the thinking section if it is ended at once; 0 where there is none."""
        return self._closing_tokens if self.thinks(request) else 0

    def fewest_kept(self, n_x: int, max_ratio: float) -> int:
        """Return the fewest of `n_x` prompt entries that are kept; as planning/solver.smallest_keep, by the planner."""
        if self._window is None or n_x <= max(self._window, self._min_kept):
            return n_x
        return max(self._min_kept, n_x - math.floor(min(max_ratio, self._max_ratio) * n_x + 1e-4))

    def decode_s(self, n_keep: int, n: int, kind: str) -> float:
        """Return the seconds of decoding `n` tokens, drawn by this kind of sampling, over `n_keep` prompt entries."""
        steps = max(n - 1, 0)  # token 0 comes from prefill
        return self.step.sum_below(n_keep + steps) - self.step.sum_below(n_keep) + steps * self._draws.get(kind, 0.0)


def _texts(request: Request) -> Iterator[tuple[str, bool]]:
    """Yield the texts of which a prompt is made; True beside those that are JSON, which a template may write anew."""
    yield request.prompt, False
    yield request.tools, True
    for message in request.messages:
        yield message['content'], False
        for call in message.get('tool_calls', ()):
            yield call['name'], False
            yield call['arguments'], True


def _written(text: str, most: int) -> int:
    """Return an upper bound on the bytes of JSON as the most wordy templates write it; counting ends above `most`.

    They indent it by 4, and escape what is not ASCII and what HTML would read. What deep lists get so is counted here
    and not made: it grows with the square of their text.
    """
    wide = len(text) - len(text.encode('ascii', 'ignore'))
    widest = len(text.encode('utf-16-le', 'surrogatepass')) // 2 - len(text)  # two escapes each
    n = max(_bytes(text), len(text) + 5 * wide + 6 * widest) + 5 * sum(map(text.count, "<>&'"))
    bare = _TEXT.sub('', text)
    n += bare.count(':') + 22 * len(_EXPONENT.findall(bare))  # a number of 1e5 is one of 100000.0
    depth = 0
    for sign in _PLAIN.sub('', bare):
        if sign in '}]':
            depth = max(0, depth - 1)
        elif sign != ',':
            depth += 1
        n += 1 + 4 * depth
        if n > most:
            break
    return n


def _bytes(text: str) -> int:
    """Return the bytes of a text, also where the tokenizer normalizes it: compatibility forms may be longer."""
    if text.isascii():
        return len(text)
    in_a_row = most = 0
    for sign in text:
        in_a_row = in_a_row + 1 if _is_mark(sign) else 0
        most = max(most, in_a_row)
    if most > MOST_MARKS:  # no text of a language: what its signs are decomposed into is longer than any form of it
        normalized = sum(len(unicodedata.normalize('NFKD', sign).encode(errors='surrogatepass')) for sign in text)
    else:
        normalized = len(unicodedata.normalize('NFKC', text).encode(errors='surrogatepass'))
    return max(len(text.encode(errors='surrogatepass')), normalized)


@lru_cache(4096)
def _is_mark(sign: str) -> bool:
    """Whether a character, or the first one of those that it stands for, combines with others before it."""
    return unicodedata.combining(unicodedata.normalize('NFKD', sign)[0]) > 0


def estimate(request: Request, costs: Costs, learned: dict, waiting: Waiting) -> Estimate:
    """Return an estimate of a request that would be released now, by the least eviction that fits.

    learned:  what the worker has said last: `prefill_factor`, `timing_factor`, `time_bound` and `reserve_s` as in
              planning/situation.Bounds, `timing_factors` by the kind of sampling, and `predicted_tokens` and
              `pessimistic_tokens` of any prompt, None where nothing predicts lengths: then every length is as likely as
              any other, and none is called INFEASIBLE for it. `told` has `time_bound`, `reserve_s` and
              `pessimistic_tokens` once more, for the worst case that is told; without it they are the same.
    """
    n_x = costs.token_bound(request)
    longest = longest_answer(request)
    n_max = min(request.max_new_tokens, costs.max_context - 1, math.inf if longest is None else longest + 1)
    section = costs.shortest_section(request)
    predicted = learned.get('predicted_tokens')
    n_hat = min(predicted or (n_max + 1) // 2, n_max)
    told = learned.get('told', learned)

    def longest_of(bounds: dict) -> int:
        return section + max(min(bounds.get('pessimistic_tokens') or n_max, n_max), n_hat)

    n_w, told_n_w = longest_of(learned), longest_of(told)
    n_hat += section
    n_min = costs.fewest_kept(n_x, request.max_eviction_ratio)
    kind = request.sampling.kind
    factor = learned.get('timing_factors', {}).get(kind, learned.get('timing_factor', 1.0))
    caution = learned.get('time_bound', 1.0)
    reserve_s, prefill_s = learned.get('reserve_s', 0.0), costs.prefill(n_x) * learned.get('prefill_factor', 1.0)

    def decode_s(n_keep: int, n: int, times: float) -> float:
        evicting_s = costs.eviction(n_x) if n_keep < n_x else 0.0
        return (evicting_s + costs.decode_s(n_keep, n, kind)) * factor * times

    def most_kept(n: int, left_s: float, times: float) -> int | None:
        if decode_s(n_x, n, times) <= left_s:
            return n_x
        fitting = bisect_right(range(n_min, n_x), left_s, key=lambda n_keep: decode_s(n_keep, n, times))
        return n_min + fitting - 1 if fitting else None

    left_s = request.time_budget_s - request.delivery_margin_s - prefill_s
    # A length that the context might cut is not promised, as in planning/solver.py.
    n_keep = most_kept(n_w, left_s - waiting.worst_s - reserve_s, caution) if n_w <= costs.max_context - n_x else None
    if n_keep is not None:
        verdict = Verdict.FITS if n_keep == n_x else Verdict.FITS_WITH_EVICTION
    else:
        n_keep = most_kept(n_hat, left_s - waiting.expected_s, 1.0)
        if n_keep is None and not predicted:
            n_keep = most_kept(section + 1, left_s - waiting.expected_s, 1.0)
        verdict = Verdict.INFEASIBLE if n_keep is None else Verdict.AT_RISK
        n_keep = n_min if n_keep is None else n_keep

    def worst_s(kept: int) -> float:
        planned_s = reserve_s + decode_s(kept, n_w, caution)
        told_s = told.get('reserve_s', 0.0) + decode_s(kept, told_n_w, told.get('time_bound', 1.0))
        if verdict.is_promise and kept == n_keep:  # as in planning/planner.py
            told_s = min(told_s, left_s - waiting.worst_s)
        return prefill_s + max(planned_s, told_s)

    return Estimate(verdict, n_x, n_hat, n_w, worst_s(n_x), worst_s(n_keep), 1 - n_keep / n_x,
                    waiting_s=waiting.worst_s if math.isfinite(waiting.worst_s) else waiting.expected_s,
                    is_from_bound=True)
