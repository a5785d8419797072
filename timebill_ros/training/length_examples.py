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

"""What the length predictor learns from: examples, put together into batches."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from timebill_ros.length.length_distribution import bucket_of
from timebill_ros.training.length_labels import length_sorted_batches


@dataclass(frozen=True)
class Example:
    """A prompt with the lengths of its responses.

    prompt:    token ids, compressed to N_p.
    response:  token ids of one response, where the backbone reads responses too; else empty.
    lengths:   lengths in tokens of all responses to the prompt.
    partial:   (position in `prompt`, length that the response would have had, had the instruction stopped there).
    """

    prompt: list[int]
    response: list[int]
    lengths: list[int]
    partial: tuple[tuple[int, int], ...] = ()


def collate(examples: list[Example], pad_id: int, bucket_size: int, n_buckets: int) -> tuple[torch.Tensor, ...]:
    """Put examples into tensors padded on the right.

    ids        [batch, S]          prompt and response; padding is `pad_id`
    remaining  [batch, S]          tokens of the response still to come after a position, where that is known: inside
                                   the response, and where `partial` tells; else 0, as where none is left
    last       [batch]             position of the prompt's last token
    labels     [batch, n_buckets]  share of the example's `lengths` in each bucket
    ends       [batch]             length of prompt and response together
    """
    width = max(len(e.prompt) + len(e.response) for e in examples)
    ids = torch.full((len(examples), width), pad_id)
    remaining = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.zeros(len(examples), n_buckets)
    for row, e in enumerate(examples):
        n, m = len(e.prompt), len(e.response)
        ids[row, :n + m] = torch.tensor(e.prompt + e.response)
        remaining[row, n:n + m] = torch.arange(m - 1, -1, -1)
        for at, length in e.partial:
            remaining[row, at] = length
        for length in e.lengths:
            labels[row, min(bucket_of(length, bucket_size), n_buckets - 1)] += 1 / len(e.lengths)
    return (ids, remaining, torch.tensor([len(e.prompt) - 1 for e in examples]), labels,
            torch.tensor([len(e.prompt) + len(e.response) for e in examples]))


def split(examples: list[Example], max_tokens: float) -> Iterator[list[Example]]:
    """Yield the examples of a batch in parts of similar length, which `collate` makes tensors of.

    A part has at most `max_tokens` tokens, padding included, or is a single longer example.
    """
    for some in length_sorted_batches([len(e.prompt) + len(e.response) for e in examples], max_tokens):
        yield [examples[i] for i in some]


def batches(lengths: list[int], batch_tokens: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Yield the indices of `lengths` in batches of similar length, in another random order each epoch.

    A batch has at most `batch_tokens` tokens, padding included, or is a single longer example.
    """
    rng = random.Random(seed)
    for _ in range(epochs):
        # With noise on the lengths, the same examples do not share a batch in every epoch.
        noisy = [round(n * rng.uniform(1, 1.1)) for n in lengths]
        epoch = list(length_sorted_batches(noisy, batch_tokens))
        rng.shuffle(epoch)
        yield from epoch
