"""Drawing the next token, on the device, without waiting for it."""
from __future__ import annotations

import torch

from timebill_ros.request import Sampling

NOT_A_TOKEN = -1


class Sampler:
    """Greedy at temperature 0; otherwise temperature, then top_k, then top_p, as transformers orders them."""

    def __init__(self, sampling: Sampling, device: torch.device):
        self.sampling = sampling
        self.generator = None
        if sampling.temperature > 0:
            self.generator = torch.Generator(device=device).manual_seed(sampling.seed)

    def draw(self, logits: torch.Tensor) -> torch.Tensor:
        """logits [V] -> token id, int64 [], or NOT_A_TOKEN where the best is not finite. No host synchronisation."""
        best, token = logits.max(dim=-1)  # max propagates NaN, so one look at it suffices
        valid = best.isfinite()
        if self.generator is not None:
            token = torch.multinomial(self.probabilities(logits), 1, generator=self.generator)[0]
        return torch.where(valid, token, NOT_A_TOKEN)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """logits [V] -> the distribution that `draw` samples from, float32 [V]; uniform where the logits are NaN."""
        sampling = self.sampling
        scores = logits.float()
        scores = (scores - scores.max()) / sampling.temperature  # no overflow at tiny temperatures
        if 0 < sampling.top_k < scores.shape[-1]:
            scores = scores.masked_fill(scores < scores.topk(sampling.top_k).values[-1], float('-inf'))
        if sampling.top_p < 1.0:
            ordered, order = scores.sort(descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            # Keep the smallest set whose mass reaches top_p: drop a token once those before it already reach it.
            dropped = torch.zeros_like(before, dtype=torch.bool).scatter(0, order, before >= sampling.top_p)
            scores = scores.masked_fill(dropped, float('-inf'))
        probabilities = scores.softmax(-1)
        return torch.where(probabilities.isnan().any(), torch.full_like(probabilities, 1 / len(probabilities)),
                           probabilities)
