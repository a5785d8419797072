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
    """Token ids of a prompt, compressed to N_p, and of one response to it; `lengths`: those of all its responses.

    partial: (position in `prompt`, length of the response, had the instruction stopped there).
    """

    prompt: list[int]
    response: list[int]
    lengths: list[int]
    partial: tuple[tuple[int, int], ...] = ()


def collate(examples: list[Example], pad_id: int, bucket_size: int, n_buckets: int) -> tuple[torch.Tensor, ...]:
    """Padded on the right:

    ids [batch, S] (padding: `pad_id`); remaining [batch, S], tokens of the response still to come after a position, as
    far as they are known: inside the response, and where `partial` tells (0: not known, or none left); last [batch],
    each prompt's last position; labels [batch, n_buckets], the shares of the example's lengths; and each example's own
    length [batch].
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


def batches(lengths: list[int], batch_tokens: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Indices in batches of similar length and at most `batch_tokens` tokens, in a new random order each epoch."""
    rng = random.Random(seed)
    for _ in range(epochs):
        # Noise on the lengths makes other neighbours each time.
        noisy = [round(n * rng.uniform(1, 1.1)) for n in lengths]
        epoch = list(length_sorted_batches(noisy, batch_tokens))
        rng.shuffle(epoch)
        yield from epoch
