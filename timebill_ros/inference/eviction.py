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

"""Eviction: which cache entries to keep, and dropping the others.

Entries are evicted between prefill and decoding, and again while decoding where time gets short. A scorer fills in one
method, `score`; the top-k and the compaction are written once, in `evict`. A high score means: keep. Scores are per
layer and KV head, and every head keeps the same number of entries.
"""
from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch.nn.functional import avg_pool1d, pad

from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.kv_cache import SlotLayer


def observation_window(n_keep: int) -> int:
    """Return W = min(32, n_keep // 2), the size of the observation window.

    The window is the prompt's last entries. They are always kept, and are at most half of what is kept.
    """
    return min(MAX_WINDOW, n_keep // 2)


class Scorer(ABC):
    """Scores the entries of one layer."""

    @abstractmethod
    def score(self, keys: torch.Tensor, values: torch.Tensor, queries: torch.Tensor, scaling: float,
              window: int) -> torch.Tensor:
        """Score entries: keys, values [1, H_kv, N, D], last prompt queries [1, H_q, >= window, D] -> [1, H_kv, N].

        `scaling` is what the layer multiplies its attention logits by. The scores of the last `window` entries must be
        above all others.
        """


def _keep_window(scores: torch.Tensor, window: int) -> torch.Tensor:
    """Append infinite scores for the window's entries to the scores of the others: [.., N - W] -> [.., N]."""
    return pad(scores, (0, window), value=float('inf'))


class SnapKV(Scorer):
    """Score an entry by the attention that the prompt's last W queries pay to it (SnapKV, Li et al., arXiv 2404.14469).

    Softmax over all keys, mean over the W queries, average-pooled over `kernel_size` neighbouring entries, mean over
    the query group of each KV head.
    """

    kernel_size = 5

    def score(self, keys, values, queries, scaling, window):
        if window == 0:  # n_keep is 1, and no window is left to observe from: the newest entry is kept
            return keys.new_zeros(keys.shape[:3]) + torch.arange(keys.shape[2], device=keys.device)
        queries = queries[:, :, -window:]
        _, n_heads, _, head_dim = queries.shape
        n_kv_heads, n_key = keys.shape[1], keys.shape[2]
        group = n_heads // n_kv_heads
        if keys.device.type == 'cpu' and keys.dtype == torch.float16:  # matrix products take ten times longer in it
            queries, keys = queries.float(), keys.float()
        # The group's queries side by side, [1, H_kv, group * W, D], so that keys are not repeated.
        grouped = queries.reshape(1, n_kv_heads, group * window, head_dim)
        # In float32 before anything else: a softmax from half precision takes ten times longer on a CPU.
        logits = (grouped @ keys.transpose(2, 3)).float() * scaling
        logits = logits.view(1, n_kv_heads, group, window, n_key)
        future = torch.ones(window, window, dtype=torch.bool, device=keys.device).triu(1)
        logits[..., n_key - window:] = logits[..., n_key - window:].masked_fill(future, float('-inf'))
        weights = logits.softmax(dim=-1)[..., :n_key - window]
        scores = weights.mean(dim=-2).view(1, n_heads, -1)  # the mean over W commutes with the pooling
        scores = avg_pool1d(scores, self.kernel_size, stride=1, padding=self.kernel_size // 2)
        return _keep_window(scores.view(1, n_kv_heads, group, -1).mean(dim=2), window)


class KeyNorm(Scorer):
    """Keys with small norms attract attention (Devoto et al., arXiv 2406.11430): the score is minus the norm."""

    def score(self, keys, values, queries, scaling, window):
        return _keep_window(-keys[:, :, :keys.shape[2] - window].norm(dim=-1), window)


class Recent(Scorer):
    """Keep the first entries (attention sinks) and the most recent ones (StreamingLLM, arXiv 2309.17453)."""

    n_sink = 4

    def score(self, keys, values, queries, scaling, window):
        scores = torch.arange(keys.shape[2] - window, dtype=torch.float32, device=keys.device)
        scores[:self.n_sink] = len(scores)
        return _keep_window(scores.expand(1, keys.shape[1], -1), window)


class Random(Scorer):
    """Score at random, seeded: the baseline that every other scorer has to beat."""

    def __init__(self, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)

    def score(self, keys, values, queries, scaling, window):
        shape = (1, keys.shape[1], keys.shape[2] - window)
        return _keep_window(torch.rand(shape, generator=self.generator).to(keys.device), window)


SCORERS: dict[str, type[Scorer]] = {'snapkv': SnapKV, 'key_norm': KeyNorm, 'recent': Recent, 'random': Random}


def best(scores: torch.Tensor, n_keep: int) -> torch.Tensor:
    """Return which `n_keep` entries score highest, [H_kv, n_keep] and ascending per head, of scores [1, H_kv, N]."""
    return scores[0].topk(n_keep, dim=-1).indices.sort(dim=-1).values


def evict(layer: SlotLayer, scorer: Scorer, queries: torch.Tensor, scaling: float, n_keep: int,
          n_prompt: int | None = None, told: list[torch.Tensor] | None = None) -> None:
    """Keep the `n_keep` best prompt entries of one layer, for every KV head, in their order.

    The first `n_prompt` entries (None: all) are the prompt's, with its window at their end, which an earlier eviction
    has kept. Entries generated since follow them and stay. The scores, [1, H_kv, n_prompt], are added to `told`.
    """
    keys, values = layer.filled()
    n = keys.shape[2]
    n_prompt = n if n_prompt is None else n_prompt
    if n_keep >= n_prompt:
        return
    scores = scorer.score(keys[:, :, :n_prompt], values[:, :, :n_prompt], queries, scaling, observation_window(n_keep))
    if told is not None:
        told.append(scores)
    kept = best(scores, n_keep)
    if n_prompt < n:
        generated = torch.arange(n_prompt, n, device=keys.device).expand(kept.shape[0], -1)
        kept = torch.cat([kept, generated], dim=-1)
    layer.keep(kept)
