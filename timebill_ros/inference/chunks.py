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

"""Reading a prompt in chunks, between which one may stop."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from timebill_ros.inference.foreign_cache import ForeignCache
from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.layer_stop import Stopped
from timebill_ros.inference.query_recorder import QueryRecorder
from timebill_ros.inference.steps.interface import Step
from timebill_ros.inference.streams import Stream


def read_in_chunks(step: Step, ids: list[int], device: torch.device, stream: Stream, *, chunk_tokens: int,
                   should_stop: Callable[[], bool], around_last: AbstractContextManager, first: int = 0
                   ) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Append a prompt to the cache -> (logits [V], hidden [H]) of its last token, as a step returns them.

    The cache holds the `first` tokens already. Chunks end where they would without these, at multiples of
    `chunk_tokens`, so that all but the first of them are the same chunks.

    A GPU is given one chunk while it computes another, so that it is never idle; it is not given a third. Raises
    Stopped where `should_stop` says so between two chunks. `around_last` is entered for the last chunk.
    """
    prompt = torch.tensor([ids], dtype=torch.long).to(device)
    positions = torch.arange(len(ids), device=device)[None]
    ends = [stream.event(), stream.event()]  # of the last two chunks
    starts = [n for n in (first, *range((first // chunk_tokens + 1) * chunk_tokens, len(ids), chunk_tokens))
              if n < len(ids)]
    for i, start in enumerate(starts):
        ends[i % 2].wait()  # for chunk i - 2, while the device computes chunk i - 1
        if i and should_stop():
            raise Stopped
        if start == starts[-1]:
            with around_last:
                return step(prompt[:, start:], positions[:, start:])
        step(prompt[:, start:starts[i + 1]], positions[:, start:starts[i + 1]])
        ends[i % 2].record()
    raise ValueError('a prompt has at least one token that is not read yet')


def to_border(cache: SlotCache | ForeignCache, recorders: dict[int, QueryRecorder]) -> int:
    """Forget a chunk that some layers have read and others have not; return how many tokens all of them have read.

    `recorders`: by layer. Nothing was evicted from the cache yet. A model's own cache is emptied.
    """
    if not isinstance(cache, SlotCache):
        cache.reset()
        return 0
    n = min(cache.lengths)
    for index, layer in enumerate(cache.layers):
        if layer.length > n and index in recorders:
            recorders[index].take_back()
    cache.lengths = [n] * len(cache.layers)
    return n
