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

"""One answer of a given form while it is written: what may come next, what must, and what it is once it is cut."""
from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import torch

from timebill_ros.codes import ErrorCode, FinishReason, GoalError, OnCut
from timebill_ros.inference.grammars.completion import ByteMatcher, Completed, chosen, closed, dropped
from timebill_ros.inference.grammars.form import CHOICES, Form
from timebill_ros.request import CUT, Timing

MOST_FORCED = 64  # tokens that are read at once: reading them cannot be interrupted


class Bounds(NamedTuple):
    """How long an answer of a form gets, in tokens, its end included."""

    least: int  # of the shortest one
    most: int | None  # about, of the longest one; None: there is no longest, or it is not known
    limit: int | None  # no answer is longer; None: there is no limit, or it is not known
    lengths: tuple[int, ...] = ()  # of each, where there are few


class Whole(NamedTuple):
    """The text of an answer that ended.

    added:   characters at its end that complete its form, where it was cut; None: it was not completed
    dropped: items of lists and members of objects that had begun and are not in it, because it was cut
    """

    text: str
    added: int | None = None
    dropped: int = 0


class RestrictedAnswer:
    """An answer that follows a grammar.

    matcher:     an LLMatcher over the model's tokens; it is used from its beginning
    bytes_of:    the LLTokenizer of these tokens
    byte_matcher: an LLMatcher of the same grammar over single bytes
    eos_ids:     tokens that end an answer
    end_s, token_s: seconds that finding the end of a cut answer takes at most, and for each of its tokens, as estimated
    grammar_s:   seconds that compiling took
    has_end:     whether a short end was found; without one, an answer that is cut is never closed, only dropped
    """

    def __init__(self, form: Form, matcher, bytes_of, byte_matcher, *, eos_ids: Collection[int], bounds: Bounds,
                 end_s: float, token_s: float, grammar_s: float, has_end: bool = True):
        self.form, self.bounds, self.grammar_s = form, bounds, grammar_s
        self._end_s, self._token_s, self._has_end = end_s, token_s, has_end
        self._matcher, self._bytes_of, self._byte_matcher = matcher, bytes_of, byte_matcher
        self._eos = min(eos_ids)
        self._bits = np.zeros((bytes_of.vocab_size + 31) // 32, dtype=np.int32)
        self._at, self._words = self._bits.ctypes.data, self._bits.view(np.uint8)
        self._mask: torch.Tensor | None = None
        self.mask_s = 0.0  # seconds that masks have taken
        self.n_forced = 0  # tokens that were forced, and read
        self.n_stepped = 0  # tokens that have been through the model
        self.widths: list[int] = []  # of the launches that took several
        matcher.reset()

    def begin(self) -> None:
        """Begin with the first token: since the form was compiled, another answer may have been written in it."""
        self._matcher.reset()

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the tokens that may come next: bool, as long as `logits` [V] and on their device.

        It is valid until the next call. The host makes it, while an accelerator computes the logits. GoalError where
        the grammar turns out to be too complex.
        """
        started = time.perf_counter()
        if self._mask is None:
            self._make_mask(logits)
        self._matcher.unsafe_compute_mask_ptr(self._at, self._bits.nbytes)
        self._check()
        self._allowed[:] = np.unpackbits(self._words, bitorder='little')[:len(self._allowed)]
        if self._mask is not self._host:
            self._mask.copy_(self._host, non_blocking=True)
        self.mask_s += time.perf_counter() - started
        return self._mask

    def _make_mask(self, logits: torch.Tensor) -> None:
        n, on_cuda = logits.shape[-1], logits.device.type == 'cuda'
        self._host = torch.zeros(n, dtype=torch.bool, pin_memory=on_cuda)
        self._allowed = self._host.numpy()[:self._bytes_of.vocab_size]  # logits of no token stay forbidden
        self._mask = self._host if logits.device.type == 'cpu' else torch.zeros(n, dtype=torch.bool,
                                                                                device=logits.device)

    def accept(self, token: int) -> None:
        """Take note of a token that was drawn under the mask. GoalError where the grammar is too complex for it."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GoalError(ErrorCode.INVALID_GOAL, f'{self.form.kind} became too complex while it was followed: '
                            f'{" ".join(self._matcher.get_error().split())[:300]}')

    def forced(self) -> list[int]:
        """Return the tokens that must come next, and take note of them; the end too, where nothing else may come."""
        if self._matcher.is_stopped():
            return [self._eos]
        tokens = self._matcher.compute_ff_tokens()[:MOST_FORCED]
        if tokens:
            tokens = tokens[:self._matcher.try_consume_tokens(tokens)]
            if self._matcher.is_stopped():
                tokens.append(self._eos)
        return tokens

    def keep_apart(self) -> None:
        """Go on with copies of the matchers: another answer of the same form may be written before this one ends."""
        self._matcher, self._byte_matcher = self._matcher.deep_copy(), self._byte_matcher.deep_copy()

    def closing_s(self, n: float) -> float:
        """Return the seconds that completing the answer takes at most, as estimated, if it is cut after `n` tokens."""
        return self._end_s + self._token_s * n

    def account(self, timing: Timing, n: int, step_s: float, beyond_s: Callable[[int], float]) -> float:
        """Tell `timing` what the form took; return what it saved of the seconds of a step for each of `n` tokens.

        step_s, beyond_s: seconds of a step, and by how much one over so many tokens takes longer
        """
        timing.forced_tokens, timing.mask_s = self.n_forced, self.mask_s
        ended = max(0, n - 1 - self.n_stepped) * step_s  # those forced at the end go through no step
        return ended + sum((width - 1) * step_s - beyond_s(width) for width in self.widths)

    def ended(self, tokens: list[int], reason: FinishReason, on_cut: OnCut) -> Whole:
        """Return what is there of an answer that ended for `reason` after `tokens`, completed if it was cut."""
        completed = self.completed(tokens, on_cut) if reason in CUT else None
        return completed or Whole(self.written(tokens).decode(errors='replace'))

    def written(self, tokens: list[int]) -> bytes:
        """Return the bytes of tokens, none of which ends an answer."""
        return self._bytes_of.decode_bytes(tokens)

    def completed(self, tokens: list[int], on_cut: OnCut) -> Whole | None:
        """Complete the answer that was cut after `tokens`.

        None where nothing that has the form is left, see OnCut.
        """
        text, form, closes = self.written(tokens), self.form, on_cut is OnCut.CLOSE
        if form.kind == CHOICES:
            found = chosen(form.choices, text, closes=closes)
        else:
            matcher = ByteMatcher(self._byte_matcher)
            found = None
            if closes and self._has_end:
                found = closed(matcher, text, is_json=form.is_json)
            elif closes and matcher.follow(text) == len(text) and matcher.accepts():
                found = Completed(text, len(text))
            if found is None:
                matcher.back_to(0)
                found = dropped(matcher, text, is_json=form.is_json)
        if found is None or not found.text:
            return None
        text = found.text.decode(errors='replace')
        own = found.text[:found.own].decode(errors='ignore')
        return Whole(text, len(text) - len(own), found.dropped)
