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

"""Tokens in a row: each is drawn from the logits of a step over the one before.

The token loop starts a step and reads the token that comes of it. An accelerator works on its own meanwhile: the next
step can be started before the token is read, because it takes the token from the device. So the device need not wait
for the host between two steps.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from timebill_ros.inference.sampling import Sampler

RING = 4  # tokens that are kept on the host; at most two of them have not been read


class Arrivals:
    """Where tokens arrive on the host, in the order of their steps: one number and one event for each.

    The numbers are in memory that the device writes to by itself. Waiting for an event is the one wait per token; it
    ends with the step of that token and not with the next one.
    """

    def __init__(self, device: torch.device):
        self._device = device
        on_cuda = device.type == 'cuda'
        with torch.inference_mode(False):  # a tensor made in inference mode may be written to in no other mode
            self.host = torch.zeros(RING, dtype=torch.long, pin_memory=on_cuda)
        self._numbers = self.host.numpy()  # the same memory; quicker to read than a tensor
        # The thread sleeps while it waits, so others have the core.
        self._events = [torch.cuda.Event(blocking=True) for _ in range(RING)] if on_cuda else []
        self._sent = self._read = 0

    def restart(self, n: int = 0) -> None:
        """Begin a row, or go on behind its first `n` tokens. Tokens of the row before that were not read are lost."""
        self._sent = self._read = n

    def receive(self, token: torch.Tensor) -> None:
        """Have the device send the next token, int64 []."""
        self.host[self._sent % RING].copy_(token, non_blocking=True)
        self.sent()

    def sent(self) -> None:
        """Take note that the device has been told to write the next token into `host`."""
        if self._events:
            self._events[self._sent % RING].record(torch.cuda.current_stream(self._device))
        self._sent += 1

    def read(self) -> int:
        """Wait for the oldest token that has not been read."""
        at = self._read % RING
        if self._events:
            self._events[at].synchronize()
        self._read += 1
        return int(self._numbers[at])


class TokenChain(ABC):
    """Draws tokens one after the other: `start`, then `read` and `launch` by turns.

    Where `ahead` is true, `launch` may be called once more before a `read`. A token that is not wanted is never read.
    Where `forced` is not 0 after a `read`, so many further tokens are read before the next `launch`.
    """

    ahead: bool
    forced = 0  # tokens that are known without a step, behind the one that was read
    width = 1  # tokens that the next launch takes through the model
    logits: torch.Tensor  # [V], what the newest token is drawn from; valid until the next launch

    @abstractmethod
    def start(self, logits: torch.Tensor) -> None:
        """Draw token 0 from the logits [V] that prefill gave."""

    @abstractmethod
    def launch(self, position: int) -> None:
        """Start a step over the newest `width` tokens, the first of which stands at `position`; draw from its logits.

        There is no host synchronisation with an accelerator. ValueError where the cache is full.
        """

    @abstractmethod
    def read(self) -> int:
        """Wait for the oldest token that has not been read; NOT_A_TOKEN where its logits were not finite."""

    def save(self) -> object:
        """Return what others would change who draw tokens from the same model before this one goes on.

        All tokens have been read. `logits` are not kept.
        """
        return None

    def restore(self, saved: object) -> None:
        """Have what `save` returned once more, after others have drawn tokens."""
        return


class StepChain(TokenChain):
    """Tokens by a model's `step` and a sampler's `draw`, whatever these are.

    `step(token, position)` gives logits [V]; where steps are started ahead it may be given NOT_A_TOKEN. `arrivals` is
    where tokens arrive from an accelerator; None: steps are over when they return, so nothing can be started ahead.
    """

    def __init__(self, step: Callable[[torch.Tensor, int], torch.Tensor], sampler: Sampler,
                 arrivals: Arrivals | None = None):
        self._step, self._sampler, self._arrivals = step, sampler, arrivals
        self.ahead = arrivals is not None and not sampler.waits_for_host

    def start(self, logits):
        if self._arrivals is not None:
            self._arrivals.restart()
        self._draw(logits)

    def launch(self, position):
        self._draw(self._step(self._token, position))

    def read(self):
        # The one wait for the device per token: it makes EOS and the deadline guard possible.
        return int(self._token) if self._arrivals is None else self._arrivals.read()

    def restore(self, saved):
        if self._arrivals is not None:
            self._arrivals.restart()

    def _draw(self, logits: torch.Tensor) -> None:
        self.logits, self._token = logits, self._sampler.draw(logits)
        if self._arrivals is not None:
            self._arrivals.receive(self._token)


class PassedChain(TokenChain):
    """Passes everything on to another chain, for classes that add something to a part of it."""

    def __init__(self, chain: TokenChain):
        self._chain, self.ahead = chain, chain.ahead

    @property
    def logits(self) -> torch.Tensor:
        return self._chain.logits

    @property
    def forced(self) -> int:
        return self._chain.forced

    @property
    def width(self) -> int:
        return self._chain.width

    def start(self, logits):
        self._chain.start(logits)

    def launch(self, position):
        self._chain.launch(position)

    def read(self):
        return self._chain.read()

    def save(self):
        return self._chain.save()

    def restore(self, saved):
        self._chain.restore(saved)
