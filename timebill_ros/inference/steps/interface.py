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

"""What a decode step is, whichever way it computes.

Four things that decoding does are apart, so that each can be replaced alone: a `Step` computes logits and the last
hidden state; `sampling.Sampler.draw` turns logits and, where a grammar restricts them, a mask into a token; a
`token_chain.TokenChain` takes the token to the next step; and `decode.decode` loops.
"""
from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.token_chain import TokenChain


class StepUnavailable(RuntimeError):
    """A kind of step cannot be had for this model on this device; the message says why."""


class Step(ABC):
    """One decode step of one model on one cache.

    `kind` names the way it computes, for logs and profiles. `reads`: the precision of the weights that it reads, where
    they are kept in another one than the model computes in; empty elsewhere.
    """

    kind: str
    reads: str = ''

    @abstractmethod
    def __call__(self, token: torch.Tensor, position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Append one token to the cache: token id and position, int64 [1, 1] each -> (logits [V], hidden [H]).

        `hidden` is the last hidden state, which enters the model's head; None for a model whose head is no module of
        its own. Both tensors are valid until the next step. There is no host synchronisation. ValueError where the
        cache is full.
        """

    def chain(self, sampler: Sampler) -> TokenChain | None:
        """Return the chain in which this step draws tokens as `sampler` does; None: tokens are drawn outside of it."""
        return None
