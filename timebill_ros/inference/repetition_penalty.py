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

"""A repetition penalty: tokens that were read or drawn before become less likely.

As in transformers, positive logits of such tokens are divided by the penalty, and negative ones multiplied. (Keskar et
al. 2019, CTRL, section 4.1, divide all of them.) A token counts once, however often it occurs. All tokens of the prompt
count, also those whose cache entries were evicted.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch


class RepetitionPenalty:
    """What one request has seen, as one factor for each token of the vocabulary, on the device.

    So nothing waits for the device, and each draw runs the same kernels on the same buffers. `prompt`: token ids.
    """

    def __init__(self, penalty: float, prompt: Sequence[int], device: torch.device):
        self._penalty = penalty
        self._prompt = torch.tensor(list(prompt), dtype=torch.long).to(device)
        self._factors = torch.empty(0, dtype=torch.float32, device=device)  # [V] from the first logits on

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the penalised logits, float32 [V], in a buffer that the next call writes to."""
        if len(self._factors) != logits.shape[-1]:
            self._factors = torch.ones_like(logits, dtype=torch.float32).index_fill_(0, self._prompt, self._penalty)
            self._positive, self._negative = torch.empty_like(self._factors), torch.empty_like(self._factors)
        # One of the two is 0, so the sum is exactly the other. NaN and infinity stay what they are.
        torch.clamp(self._positive.copy_(logits), max=0, out=self._negative).mul_(self._factors)
        return self._positive.clamp_(min=0).div_(self._factors).add_(self._negative)

    def add(self, token: torch.Tensor) -> None:
        """Take note of a token that was drawn: int64 [], on the device."""
        self._factors.scatter_(0, token.view(1), self._penalty)
