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

"""The hidden states of an answer, kept while it is decoded: the newest one, and the mean of every fourth.

They are the last ones, which enter the model's head. Every kind of step computes them anyway and gives them beside the
logits (steps/interface.py), compiled and captured ones too. So nothing is added to a step, and its compiled files and
its comparison with the modules, which covers this output, stay as they are. After every fourth step the device copies
the state and adds it up, in the order of its work: 2 H numbers, and no wait. The host reads both where it looks at the
plan.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from timebill_ros.inference.streams import Stream
from timebill_ros.inference.token_chain import PassedChain, TokenChain

EVERY = 4  # tokens, of which one state counts in the mean


class AnswerState:
    """The states of the answer, or of the answers of a batch, that is decoded.

    `example`: a state as steps give them, [H], or [B, H] of a batch. `stream`: where the steps' work is.
    """

    def __init__(self, example: torch.Tensor, stream: Stream):
        on_cuda = example.device.type == 'cuda'
        with torch.inference_mode(False):  # a tensor made in inference mode may be written to in no other mode
            self._both = torch.zeros(2, *example.shape, dtype=torch.float32, device=example.device)  # newest, sum
            self._kept, self._sum = self._both[0], self._both[1]
            self._host = torch.zeros(self._both.shape, dtype=torch.float32, pin_memory=on_cuda)
        self._stream = stream
        self.begin()

    @property
    def width(self) -> int:
        """H."""
        return self._both.shape[-1]

    def begin(self) -> None:
        """Begin with the first token of an answer, which prefill gives."""
        self._n, self._kept_n, self._newest = 1, 0, None  # tokens that were given, states in the sum

    def passed(self, hidden: torch.Tensor, width: int = 1) -> None:
        """Take note of the state [H] of one more step, which is valid until the next one. There is no wait.

        width: tokens that it took through the model.
        """
        before, self._newest = self._n, hidden
        self._n += width
        if self._n // EVERY > before // EVERY:
            self._add(hidden)

    @torch.inference_mode()
    def _add(self, hidden: torch.Tensor) -> None:
        if not self._kept_n:
            self._sum.zero_()
        self._kept.copy_(hidden)
        self._sum.add_(self._kept)
        self._kept_n += 1

    @torch.inference_mode()
    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the newest state and the mean of every fourth, float32 [H] each; this waits for the device.

        To be called before a step is started after the newest one. ValueError before the first step.
        """
        if self._newest is None:
            raise ValueError('no step was made yet')
        self._kept.copy_(self._newest)
        self._host.copy_(self._both, non_blocking=True)
        self._stream.wait()
        newest, total = self._host.numpy().copy()
        return newest, total / self._kept_n if self._kept_n else newest


    @torch.inference_mode()
    def save(self) -> tuple:
        """Copy what was kept of an answer, for `restore` after others."""
        newest = self._newest.clone() if self._newest is not None else None
        return self._n, self._kept_n, newest, self._both.clone()

    @torch.inference_mode()
    def restore(self, saved: tuple) -> None:
        """Go on with the answer that was saved."""
        self._n, self._kept_n, self._newest, both = saved
        self._both.copy_(both)


class WatchedChain(PassedChain):
    """A chain that keeps the states of its steps. `hidden`: returns the state of the step that was launched last."""

    def __init__(self, chain: TokenChain, states: AnswerState, hidden: Callable[[], torch.Tensor]):
        super().__init__(chain)
        self._states, self._hidden = states, hidden

    def start(self, logits):
        self._states.begin()
        self._chain.start(logits)

    def launch(self, position):
        width = self._chain.width
        self._chain.launch(position)
        self._states.passed(self._hidden(), width)

    def save(self):
        return self._chain.save(), self._states.save()

    def restore(self, saved):
        chain, states = saved
        self._chain.restore(chain)
        self._states.restore(states)
