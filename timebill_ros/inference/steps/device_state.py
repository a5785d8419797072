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

"""What captured steps read and write, in tensors that stay where they are: a graph repeats the addresses it saw."""
from __future__ import annotations

import torch

from timebill_ros.inference.steps import captured_draws
from timebill_ros.inference.token_chain import RING, Arrivals
from timebill_ros.request import Sampling


class DeviceState:
    """The next step's token, position and slot, how many tokens are drawn, and where a step leaves what it computes.

    `token` and `position`, int64 [1, 1]: what the next step reads. `slot`, int64 [1]: where it writes keys and values.
    `count`, int64 [1]: tokens drawn so far. A step counts the last three on, so that the next step needs nothing from
    the host. `logits` [V] and `hidden` [H] are of the latest step; `hidden` is None for a model without it. `numbers`
    [4] and `random` [capacity + 2] say how tokens are drawn by chance, see captured_draws.py.
    """

    def __init__(self, capacity: int, device: torch.device, logits: torch.Tensor, hidden: torch.Tensor | None):
        self._capacity = capacity
        with torch.inference_mode(False):  # tensors made in inference mode may be written to in no other mode
            # 16 bytes apart: compiled kernels rely on it.
            numbers = torch.zeros(4, 2, dtype=torch.long, device=device)
            self.logits = torch.zeros(logits.shape, dtype=logits.dtype, device=device)
            self.hidden = None if hidden is None else torch.zeros(hidden.shape, dtype=hidden.dtype, device=device)
            self._ring = torch.zeros(RING, dtype=torch.long, device=device)  # the newest tokens
            self.numbers = torch.ones(4, device=device)  # see captured_draws.numbers_of
            # One random number for each token, drawn before the first.
            self.random = torch.zeros(capacity + 2, dtype=torch.float64, device=device)
            self.token, self.position = numbers[0, :1].view(1, 1), numbers[1, :1].view(1, 1)
            self.slot, self.count = numbers[2, :1], numbers[3, :1]
            self._counters = numbers[1:]
        self.arrivals = Arrivals(device)
        self.park()

    def park(self) -> None:
        """Point at the spare slot of inference/kv_cache.py: a step that only warms up harms nothing there."""
        self.token.zero_()
        self.position.zero_()
        self.slot.fill_(self._capacity)
        self.count.zero_()

    def begin(self, sampling: Sampling, generator: torch.Generator | None, token: torch.Tensor) -> None:
        """Begin a row of tokens with `token`, int64 [], which was drawn outside. The host is told it as of a step.

        `generator` gives the random numbers of all further tokens; None: they are greedy.
        """
        if generator is not None:
            self.numbers.copy_(captured_draws.numbers_of(sampling))
            self.random[1:].copy_(torch.rand(self._capacity + 1, dtype=torch.float64, generator=generator))
        self.count.zero_()
        self.arrivals.restart()
        self._tell(token, self.count)
        self.count.fill_(1)
        self.arrivals.sent()

    def save(self) -> list[torch.Tensor]:
        """Copy what the row of tokens needs to go on after other rows, for `restore`."""
        return [tensor.clone() for tensor in self._of_row]

    def restore(self, saved: list[torch.Tensor], n: int) -> None:
        """Go on with a row of which `n` tokens were sent and read when it was saved."""
        for tensor, kept in zip(self._of_row, saved, strict=True):
            tensor.copy_(kept)
        self.arrivals.restart(n)

    @property
    def _of_row(self) -> tuple[torch.Tensor, ...]:
        return self.token, self.count, self._ring, self.numbers, self.random

    # -- what is captured --------------------------------------------------------------------------------------------

    def finish(self, logits: torch.Tensor, hidden: torch.Tensor | None) -> None:
        """End a step: keep its outputs, draw the most likely token, and count everything on for the next step."""
        self.logits.copy_(logits)
        if hidden is not None:
            self.hidden.copy_(hidden)
        self._tell(captured_draws.greedy(logits), self.count)
        self._counters.add_(1)

    def draw_again(self, kind: str) -> None:
        """Draw the token after the latest step by another kind of sampling; see captured_draws.DRAWS."""
        drawn = self.count - 1
        random = self.random.index_select(0, drawn)
        self._tell(captured_draws.DRAWS[kind](self.logits, self.numbers, random), drawn)

    def _tell(self, token: torch.Tensor, drawn: torch.Tensor) -> None:
        """Make `token`, int64 [], the next step's, and send it to the host; `drawn` [1]: tokens before it."""
        # The next step may start before the host sees a token that is none.
        torch.clamp(token.view(1, 1), min=0, out=self.token)
        self._ring.index_copy_(0, drawn % RING, token.view(1))
        # All of them, because a graph cannot choose an address on the host. Those that were there stay what they were.
        self.arrivals.host.copy_(self._ring, non_blocking=True)
