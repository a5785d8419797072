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

"""Tokens of an answer that follows a grammar.

The mask of the next token is made on the host while an accelerator computes the step, and nothing is started ahead:
what may come next depends on the token before. What the grammar forces comes without being drawn, and goes into the
cache together with the token before it: several tokens in one step, where that is quicker than a step for each.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from timebill_ros.inference.conventions import NOT_A_TOKEN
from timebill_ros.inference.grammars.restricted_answer import RestrictedAnswer
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.steps.several import append
from timebill_ros.inference.token_chain import StepChain
from timebill_ros.request import Sampling


class MaskedSampler(Sampler):
    """Draws only tokens that `answer` allows."""

    waits_for_host = True

    def __init__(self, sampling: Sampling, device: torch.device, prompt: Sequence[int], answer: RestrictedAnswer):
        super().__init__(sampling, device, prompt)
        self.answer, self._device = answer, device

    def draw(self, logits, mask=None):
        return super().draw(logits, self.answer.mask(logits))

    def seen(self, token: int) -> None:
        """Take note of a token that came without being drawn: the repetition penalty counts it."""
        if self._penalty is not None:
            self._penalty.add(torch.tensor(token, device=self._device))


class GrammarChain(StepChain):
    """Tokens by steps of `model`, and tokens that the grammar of `sampler` forces."""

    def __init__(self, model, sampler: MaskedSampler):
        super().__init__(model.step, sampler)
        self._model, self._answer = model, sampler.answer
        self._forced: list[int] = []  # of these, the first `_given` have been read
        self._given = 0
        self._behind: list[int] = []  # tokens that were read and have not been through a step

    @property
    def forced(self):
        return len(self._forced) - self._given

    @property
    def width(self):
        return len(self._behind)

    def start(self, logits):
        self._answer.begin()
        super().start(logits)

    def launch(self, position):
        self._answer.n_stepped += len(self._behind)
        if len(self._behind) == 1:
            super().launch(position)
        else:
            self._answer.widths.append(len(self._behind))
            self._draw(append(self._model, self._behind, position))

    def read(self):
        if self._given < len(self._forced):
            token = self._forced[self._given]
            self._given += 1
            self._behind.append(token)
            self._sampler.seen(token)
            self._answer.n_forced += 1
            return token
        token = super().read()
        if token != NOT_A_TOKEN and token not in self._model.eos_ids:
            self._answer.accept(token)
            self._forced, self._given, self._behind = self._answer.forced(), 0, [token]
        return token

    def save(self):
        self._answer.keep_apart()
        return super().save()


class RestrictedModel:
    """What the token loop needs of a model, for an answer that follows a grammar."""

    def __init__(self, model, answer: RestrictedAnswer):
        self._model, self._answer, self.eos_ids = model, answer, model.eos_ids

    @contextlib.contextmanager
    def drawing(self, sampling: Sampling, ids: list[int]) -> Iterator[MaskedSampler]:
        """Give the sampler of the answer; see sampling.drawing. `ids`: the prompt."""
        with torch.inference_mode():
            yield MaskedSampler(sampling, self._model.device, ids, self._answer)

    def chain(self, sampler: MaskedSampler) -> GrammarChain:
        """Return what draws the tokens of the answer."""
        return GrammarChain(self._model, sampler)
