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

"""Drawing the next token on the device, without waiting for an accelerator.

On a CPU the vocabulary is not sorted: 150,000 logits take longer to sort than a small model's step. top_k and top_p are
applied to the largest logits only. Where these are too few for the exact answer, more are taken. A token is drawn by
the inverse of the cumulated weights, which takes one random number; a race of exponentials would take one for each
token, and several milliseconds.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from timebill_ros.inference.conventions import NOT_A_TOKEN
from timebill_ros.inference.repetition_penalty import RepetitionPenalty
from timebill_ros.request import Sampling

# Logits that top_p looks at on a CPU, and again where their mass does not reach top_p; after the last size, all.
SIZES = (1024, 16384)
SPARE = 64  # logits taken beyond top_k: those equal to the k-th are kept too, as in transformers


class Sampler:
    """Greedy at temperature 0; otherwise temperature, then top_k, top_p and min_p, in the order of transformers.

    Before them comes the repetition penalty, for the token ids of `prompt` and those drawn here.
    """

    # Whether a draw needs what only the host knows, once it has read the token before: the mask of a grammar is that.
    # Then no step is started ahead.
    waits_for_host = False

    def __init__(self, sampling: Sampling, device: torch.device, prompt: Sequence[int] = ()):
        self.sampling = sampling
        self._penalty = RepetitionPenalty(sampling.repetition_penalty, prompt, device) \
            if sampling.repetition_penalty != 1 else None
        self.generator = None
        if sampling.temperature > 0:
            # On the CPU: a seed gives the same numbers on every device, one by one or many at once.
            self.generator = torch.Generator().manual_seed(sampling.seed)
            self._scores = torch.empty(0, dtype=torch.float32, device=device)  # [V] from the first token on
            self._mass = torch.empty(0, dtype=torch.float64, device=device)  # [V] from the first token on
            self._random = torch.empty(1, dtype=torch.float64)
        # Weights above this have at least min_p of the largest one's, which is 1.
        self._dropped = float(torch.nextafter(torch.tensor(sampling.min_p), torch.tensor(0.0)))

    def draw(self, logits: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Draw the next token: logits [V] -> token id, int64 []. No host synchronisation with an accelerator.

        `mask`, bool [V]: True for the tokens that may be drawn; None: all. The id is NOT_A_TOKEN where the largest
        logit is not finite, and where the mask allows no token.
        """
        if self._penalty is not None:
            logits = self._penalty.apply(logits)
        if mask is not None:
            logits = logits.masked_fill(~mask, float('-inf'))
        best, token = logits.max(dim=-1)  # max propagates NaN, so looking at the maximum suffices
        valid = best.isfinite()
        if self.generator is not None:
            weights, ids = self._weights(logits, best)
            mass = self._mass if ids is None else torch.empty(len(weights), dtype=torch.float64, device=weights.device)
            torch.cumsum(weights, 0, dtype=torch.float64, out=mass)  # in float64: no token is too rare to be drawn
            at = self._random.uniform_(generator=self.generator).to(mass.device, non_blocking=True).mul_(mass[-1])
            # The first whose cumulated mass is above the random number: never one of weight 0.
            chosen = torch.searchsorted(mass, at, right=True)[0].clamp(max=len(weights) - 1)
            # Not ids[chosen]: an index of no dimension is read by the host.
            token = chosen if ids is None else ids.index_select(0, chosen.view(1)).view(())
        if self._penalty is not None:
            self._penalty.add(token)
        return torch.where(valid, token, NOT_A_TOKEN)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what `draw` samples from: finite logits [V] -> probabilities, float32 [V]."""
        if self._penalty is not None:
            logits = self._penalty.apply(logits)
        weights, ids = self._weights(logits, logits.max())
        if ids is not None:
            weights = torch.zeros_like(self._scores).scatter_(0, ids, weights)
        return weights / weights.sum()

    def _weights(self, logits: torch.Tensor, best: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return unnormalised probabilities [K] and the ids [K] of their tokens; None: the whole vocabulary in order.

        best: the largest of `logits`. Tokens that top_k, top_p or min_p drops have weight 0.
        """
        weights, ids = self._top_weights(logits, best)
        return (torch.threshold_(weights, self._dropped, 0.0) if self.sampling.min_p > 0 else weights), ids

    def _top_weights(self, logits: torch.Tensor, best: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Do what `_weights` does, without min_p."""
        sampling, n = self.sampling, logits.shape[-1]
        if len(self._scores) != n:
            self._scores, self._mass = self._scores.new_empty(n), self._mass.new_empty(n)
        # The largest score is 0: no overflow at tiny temperatures.
        scores = self._scores.copy_(logits).sub_(best).div_(sampling.temperature)
        top_k = sampling.top_k if 0 < sampling.top_k < n else 0
        if top_k and scores.device.type != 'cpu':
            scores.masked_fill_(scores < scores.topk(top_k).values[-1], float('-inf'))
            top_k = 0
        if not top_k and sampling.top_p >= 1:
            return scores.exp_(), None
        # The mass of all tokens that top_p is a share of; after top_k those that are left, which are known below.
        total = None if top_k else torch.exp(scores, out=self._mass).sum()
        for size in self._sizes(n, top_k):
            values, ids = scores.topk(size)
            more = size < n  # logits that were not taken
            if top_k:
                if more and bool(values[-1] == values[top_k - 1]):
                    continue  # others may be equal to the k-th
                values = values.masked_fill(values < values[top_k - 1], float('-inf'))
            weights = values.exp()
            if sampling.top_p >= 1:
                return weights, ids
            reached = weights.cumsum(0, dtype=torch.float64)  # see captured_draws.py
            needed = sampling.top_p * (reached[-1] if total is None else total)
            if more and total is not None and bool(reached[-1] < needed):
                continue
            # Keep the smallest set whose mass reaches top_p: drop a token where those before it already reach it.
            return weights.masked_fill(reached - weights >= needed, 0.0), ids
        raise AssertionError('the last size is the whole vocabulary')

    def _sizes(self, n: int, top_k: int) -> list[int]:
        """Return how many of the `n` largest scores to look at, first and where these are too few; `n` at the end."""
        if self._scores.device.type != 'cpu':
            return [n]  # an accelerator sorts all in less time than it takes to wait for a comparison
        first = [top_k + SPARE] if top_k else []
        return [size for size in (*first, *SIZES) if max(top_k, 1) < size < n] + [n]


@contextlib.contextmanager
def drawing(sampling: Sampling, device: torch.device, prompt: Sequence[int] = ()) -> Iterator[Sampler]:
    """Give a Sampler for one answer. Inside, torch is in inference mode: entered once, not by every step."""
    with torch.inference_mode():
        yield Sampler(sampling, device, prompt)
