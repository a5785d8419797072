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

"""A model without weights: it answers a script, and its work moves on a clock that the tests hold."""
from __future__ import annotations

from concurrent.futures import Future

import torch

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference.chat_facts import NO_CHAT
from timebill_ros.inference.grammars.no_grammars import NoGrammars
from timebill_ros.inference.sampling import drawing
from timebill_ros.inference.streams import Stream
from timebill_ros.inference.token_chain import StepChain
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.prediction import Prediction
from timebill_ros.request import Request
from timebill_ros.timing.execution_time import ExecutionTimes

EOS = 256
# Prefill of 1,000 tokens takes 110 ms; a step takes 20 ms over 1,000 entries and 10.5 ms over 50.
TIMES = ExecutionTimes(a=0.0, b=1e-4, c=0.01, p=1e-5, q=0.01, e_1=1e-6, e_0=1e-3, a_p=0.0, b_p=1e-5, c_p=0.01)


class FakeClock:
    def __init__(self, now: float = 1000.0):
        self.now = now

    def __call__(self) -> float:
        return self.now


class ByteTokenizer:
    """One token per byte, and EOS. It prints EOS, so that tests see an answer that wrongly holds it."""

    def __len__(self) -> int:
        return 257

    def decode(self, ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) -> str:
        return b''.join(b'<eos>' if i == EOS else bytes([i]) for i in ids).decode(errors='replace')


class MockModel:
    """Takes `slowness` times as long as TIMES says. `on_chunk`, `on_step` and `on_evict` are called before the work.

    They get the chunk's index, the step's number (from 1) and the entries to keep.
    """

    device = torch.device('cpu')
    name, variant, eos_ids = 'mock', 'float32', frozenset({EOS})
    supports_eviction = True
    chunked_prefill, looks_per_chunk, chunks_queued = True, 1, 1
    stream = Stream()
    max_context, n_read = 4000, 0
    variants = {'float32': None}
    prefixes = asides = None
    chat = NO_CHAT
    grammars = NoGrammars('this model is one of tests')

    def __init__(self, clock: FakeClock, answer: bytes = b'abcdefghijklmnopqrstuvwxyz0123', *, ends: bool = True,
                 slowness: float = 1.0, on_chunk=lambda i: None, on_step=lambda i: None, on_evict=lambda n: None,
                 on_tokenize=lambda: None):
        self.clock, self.slowness = clock, slowness
        self.script = [*answer, EOS] if ends else list(answer) * 100
        self.on_chunk, self.on_step, self.on_evict, self.on_tokenize = on_chunk, on_step, on_evict, on_tokenize
        self.tokenizer = ByteTokenizer()
        self.calls: list[str] = []
        self.positions: list[int] = []
        self.n_kv = self.n_prompt = 0

    def render(self, request: Request) -> str:
        return request.prompt or ''.join(message['content'] for message in request.messages)

    def tokenize(self, text: str, *, is_chat: bool, should_stop=lambda: False) -> list[int] | None:
        self.on_tokenize()
        if should_stop():
            return None
        if not text:
            raise GoalError(ErrorCode.INVALID_GOAL, 'the prompt holds no tokens')
        return list(text.encode())

    def reset(self) -> None:
        self.calls.append('reset')
        self.n_kv = self.n_prompt = 0

    def prefill(self, ids, *, chunk_tokens, should_stop=lambda: False):
        for i, start in enumerate(range(0, len(ids), chunk_tokens)):
            if i and should_stop():
                return None
            self.calls.append('chunk')
            self.on_chunk(i)
            self._work(TIMES.b * len(ids[start:start + chunk_tokens]) + (TIMES.c if i == 0 else 0.0))
        self.n_kv = self.n_prompt = len(ids)
        return self._logits(0)

    def step(self, token, position):
        n = self._steps() + 1
        assert int(token) == self.script[n - 1], 'the token drawn last goes in next'
        self.calls.append('step')
        self.positions.append(position)
        self.on_step(n)
        self._work(TIMES.step(self.n_kv))
        self.n_kv += 1
        return self._logits(n)

    def drawing(self, sampling, ids):
        return drawing(sampling, self.device, ids)

    def chain(self, sampler):
        return StepChain(self.step, sampler)

    def evict(self, n_keep) -> None:
        self.calls.append('evict')
        self.on_evict(n_keep)
        self._work(TIMES.eviction(self.n_kv))
        self.n_kv -= self.n_prompt - n_keep  # generated entries stay
        self.n_prompt = n_keep

    def _steps(self) -> int:
        """Return how many steps there were since the prompt was put back."""
        since = len(self.calls) - self.calls[::-1].index('restore') if 'restore' in self.calls else 0
        return self.calls[since:].count('step')

    def snapshot(self):
        return self.n_kv, self.n_prompt

    def restore(self, snapshot) -> None:
        self.calls.append('restore')
        self.n_kv, self.n_prompt = snapshot

    def use_variant(self, name) -> None:
        assert name in self.variants

    def synchronize(self) -> None:
        pass

    def _work(self, seconds: float) -> None:
        self.clock.now += self.slowness * seconds

    def _logits(self, n: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor(self.script[n]), 257).float()


class MockPredictions:
    """Stands in for a PredictionExecutor: predicts `length` after `seconds`, never (`late`), or fails with `error`."""

    fingerprint = 'mock'
    bounds: list[int]

    def __init__(self, clock: FakeClock, length: int = 20, *, seconds: float = 0.03, late: bool = False,
                 error: Exception | None = None, distribution: LengthDistribution | None = None):
        self.clock, self.seconds, self.late, self.error = clock, seconds, late, error
        self.distribution = distribution or LengthDistribution.point(length)
        self.bounds = []

    def submit(self, text: str, max_input_tokens: int) -> Future:
        self.bounds.append(max_input_tokens)
        future: Future = Future()
        if self.error:
            future.set_exception(self.error)
        elif not self.late:
            now = self.clock()
            future.set_result(Prediction(self.distribution, now, now + self.seconds))
        return future

    def marginal(self) -> LengthDistribution:
        return LengthDistribution.point(50)
