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

"""Drawing the next token on the device, without waiting for the device."""
from __future__ import annotations

import torch

from timebill_ros.request import Sampling

NOT_A_TOKEN = -1


class Sampler:
    """Greedy at temperature 0; otherwise temperature, then top_k, then top_p, in the order of transformers."""

    def __init__(self, sampling: Sampling, device: torch.device):
        self.sampling = sampling
        self.generator = None
        if sampling.temperature > 0:
            self.generator = torch.Generator(device=device).manual_seed(sampling.seed)

    def draw(self, logits: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Draw the next token: logits [V] -> token id, int64 []. No host synchronisation.

        `mask`, bool [V]: True for the tokens that may be drawn; None: all. The id is NOT_A_TOKEN where the largest
        logit is not finite, and where the mask allows no token.
        """
        if mask is not None:
            logits = logits.masked_fill(~mask, float('-inf'))
        best, token = logits.max(dim=-1)  # max propagates NaN, so looking at the maximum suffices
        valid = best.isfinite()
        if self.generator is not None:
            token = torch.multinomial(self.probabilities(logits), 1, generator=self.generator)[0]
        return torch.where(valid, token, NOT_A_TOKEN)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what `draw` samples from: logits [V] -> probabilities, float32 [V]; uniform where logits are NaN."""
        sampling = self.sampling
        scores = logits.float()
        scores = (scores - scores.max()) / sampling.temperature  # no overflow at tiny temperatures
        if 0 < sampling.top_k < scores.shape[-1]:
            scores = scores.masked_fill(scores < scores.topk(sampling.top_k).values[-1], float('-inf'))
        if sampling.top_p < 1.0:
            ordered, order = scores.sort(descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            # Keep the smallest set whose mass reaches top_p: drop a token where those before it already reach top_p.
            dropped = torch.zeros_like(before, dtype=torch.bool).scatter(0, order, before >= sampling.top_p)
            scores = scores.masked_fill(dropped, float('-inf'))
        probabilities = scores.softmax(-1)
        return torch.where(probabilities.isnan().any(), torch.full_like(probabilities, 1 / len(probabilities)),
                           probabilities)
