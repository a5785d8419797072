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

"""A model without weights, for the real engine: its answers come from a script, and its work is waiting.

What it does while it waits is what a model does: it looks whether to stop while it reads a prompt, and not while it
computes a token. No torch.
"""
from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference.chat_facts import NO_CHAT
from timebill_ros.inference.conventions import check_prompt
from timebill_ros.inference.grammars.no_grammars import NoGrammars
from timebill_ros.inference.thinking_section import refuse_thinking
from timebill_ros.request import Request, Sampling
from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.worker.script import Answer, Script, tokens_of
from timebill_ros.worker.scripted_faults import FAULTS
from timebill_ros.worker.scripted_uses import Uses

PROMPT, EOS = 0, 1  # token ids: one for every token of every prompt, and the end of an answer
LOOK_S = 0.01  # longest time that prefill waits between two looks
SEEN_S = 0.2  # before a fault the text so far is streamed, as it would be by then from a model that works longer


class ScriptedTokenizer:
    """Token ids of the answers of a script."""

    def __init__(self):
        self._texts = {PROMPT: '', EOS: ''}
        self._ids: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        """Return the ids of an answer's tokens."""
        for piece in tokens_of(text):
            if piece not in self._ids:
                self._ids[piece] = len(self._texts)
                self._texts[self._ids[piece]] = piece
        return [self._ids[piece] for piece in tokens_of(text)]

    def decode(self, ids, skip_special_tokens: bool = True, clean_up_tokenization_spaces: bool = False) -> str:
        """Return the text of token ids; the end of an answer has none."""
        return ''.join(self._texts[i] for i in ids)


class _Stream:
    """In the place of a device's stream, which a model's work is put on."""

    def entered(self, *, ordered: bool = True) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()


class ScriptedModel:
    """Answers one prompt after the other. It has what the engine and the worker use of a CausalLM.

    `times`: what its work takes where the answer does not say.
    """

    device = SimpleNamespace(type='script')
    variant, variants = 'script', {'script': None}
    stream = _Stream()
    supports_eviction = chunked_prefill = True
    looks_per_chunk = chunks_queued = 1
    chat = NO_CHAT
    prefixes = None  # every prompt is read from its beginning
    n_read = 1  # a prompt that was begun is gone on with where it stopped
    eos_ids = frozenset({EOS})
    sampling: dict[str, float] = {}
    grammars = NoGrammars('answers come from a script')

    def __init__(self, script: Script, times: ExecutionTimes, uses: Uses, *,
                 sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic):
        self.name, self.max_context = str(script.path), script.context_tokens
        self._script, self._times, self._uses, self._sleep, self._clock = script, times, uses, sleep, clock
        self.tokenizer = ScriptedTokenizer()
        self._ids = [self.tokenizer.encode(answer.text) for answer in script.answers]
        # Where a text is repeated, the first word follows a word too.
        self._again = [ids and [*self.tokenizer.encode(' ' + answer.text)[:1], *ids[1:]]
                       for answer, ids in zip(script.answers, self._ids, strict=True)]
        self._asked = ''
        self._number: int | None = None  # of the answer that runs
        self.asides = ScriptedAsides(self)
        self.reset()

    # -- text ----------------------------------------------------------------------------------------------------

    def render(self, request: Request) -> str:
        """Return the text of a request: its prompt, or a line for each message. The last one chooses the answer.

        GoalError for a goal with tools, or that is to think: a script has no chat template.
        """
        if request.tools:
            raise GoalError(ErrorCode.INVALID_GOAL, 'the goal has tools, which a scripted worker does not serve: its '
                            'answers come from a script')
        refuse_thinking(request, None, 'scripted')
        self._asked = request.messages[-1]['content'] if request.messages else request.prompt
        return request.prompt or '\n'.join(f'{m["role"]}: {m["content"]}' for m in request.messages)

    def tokenize(self, text: str, *, is_chat: bool, should_stop: Callable[[], bool] = lambda: False
                 ) -> list[int] | None:
        """Return a token for each word. GoalError where there are none or too many, or no answer of the script fits."""
        ids = [PROMPT] * len(tokens_of(text))
        check_prompt(ids, self.max_context)
        return ids

    def lengths(self) -> tuple[int, int]:
        """Return the lengths (predicted, pessimistic) that the script foresees for the prompt rendered last."""
        return self._lengths_of(self._find())

    def usual_lengths(self) -> tuple[int, int]:
        """Return the lengths that are foreseen for no prompt in particular: the longest of each kind that ends."""
        every = [self._lengths_of(i) for i, answer in enumerate(self._script.answers) if answer.ends]
        every = every or [(self.max_context - 1, self.max_context - 1)]
        return max(n_hat for n_hat, _ in every), max(n_w for _, n_w in every)

    def _lengths_of(self, number: int) -> tuple[int, int]:
        answer, most = self._script.answers[number], self.max_context - 1
        own = len(self._ids[number]) + 1 if answer.ends else most  # the end is a token too
        predicted = min(answer.predicted_tokens or own, most)
        return predicted, max(min(answer.pessimistic_tokens, most), predicted)

    def _find(self) -> int:
        number = self._script.find(self._asked, self._uses.of)
        if number is None:
            raise GoalError(ErrorCode.INVALID_GOAL, f'no answer of the script {self.name} fits {self._asked[:80]!r}, '
                            'or those that do are used up; an answer without when and uses, at its end, fits all')
        return number

    # -- the work of a model ----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the previous prompt."""
        self._number, self._n, self._n_kv, self._n_prompt, self._left_s, self._due_s = None, 0, 0, 0, 0.0, 0.0

    def prefill(self, ids: list[int], *, chunk_tokens: int, should_stop: Callable[[], bool] = lambda: False,
                first: int = 0) -> Answer | None:
        """Read the prompt; return the answer that was chosen, or None where `should_stop` said so.

        `first`: 0 for a prompt that was not begun yet.
        """
        if not first:
            self._number = number = self._find()
            answer = self._script.answers[number]
            if answer.uses:
                self._uses.count(number)
            self._left_s = self._times.prefill(len(ids)) if answer.prompt_s is None else answer.prompt_s
        answer = self._script.answers[self._number]
        due_s = self._clock() + self._left_s
        while (left_s := due_s - self._clock()) > 0:
            self._sleep(min(left_s, LOOK_S))
            if should_stop():
                self._left_s = max(0.0, due_s - self._clock())
                return None
        self._due_s = due_s
        self._n_kv = self._n_prompt = len(ids)
        self._go_wrong(answer, 0)
        return answer

    @contextlib.contextmanager
    def drawing(self, sampling: Sampling, ids: list[int]) -> Iterator[None]:
        """Nothing is drawn: the script says which token comes next, whatever the goal's sampling is."""
        yield

    def chain(self, sampler: None) -> ScriptedChain:
        """Return what gives the tokens of the answer, one after the other."""
        return ScriptedChain(self)

    def token(self, n: int) -> int:
        """Return token `n` of the answer that runs, from 0."""
        ids, answer = self._ids[self._number], self._script.answers[self._number]
        if n < len(ids):
            return ids[n]
        return EOS if answer.ends else self._again[self._number][n % len(ids)]

    def step(self) -> None:
        """Wait until the next token is due. An answer that is behind its pace catches up."""
        answer = self._script.answers[self._number]
        self._n += 1
        self._due_s += self._times.step(self._n_kv) if answer.token_s is None else answer.token_s
        self._n_kv += 1
        self._go_wrong(answer, self._n)
        self._wait()

    def _wait(self) -> None:
        if (left_s := self._due_s - self._clock()) > 0:
            self._sleep(left_s)

    def _go_wrong(self, answer: Answer, n: int) -> None:
        """Do what the script says for the moment at which `n` tokens have come."""
        for pause in answer.pauses:
            if pause.after_tokens == n:
                self._due_s += pause.seconds
                self._wait()
        if answer.fault is not None and answer.fault.after_tokens == n:
            self._sleep(SEEN_S)
            FAULTS[answer.fault.kind]()

    def evict(self, n_keep: int) -> None:
        """Keep `n_keep` entries of the prompt; generated ones stay."""
        self._n_kv -= self._n_prompt - n_keep
        self._n_prompt = n_keep

    def put_aside(self) -> tuple:
        """Return what the request that runs is, for `take_up`."""
        return self._number, self._n, self._n_kv, self._n_prompt, self._left_s, self._due_s - self._clock()

    def take_up(self, aside: tuple) -> None:
        """Go on with a request. The token that it waits for is due as long after this as it was."""
        self._number, self._n, self._n_kv, self._n_prompt, self._left_s, due_s = aside
        self._due_s = self._clock() + due_s

    def use_variant(self, name: str) -> None:
        """Do nothing: there is one kind of weights, namely none."""

    def synchronize(self) -> None:
        """Do nothing: work is over when its call returns."""

    def check(self) -> None:
        """Do nothing: there is no cache that could contradict itself."""


class ScriptedChain:
    """In the place of a TokenChain: `read` and `launch` by turns."""

    forced, width = 0, 1
    ahead = False

    def __init__(self, model: ScriptedModel):
        self._model, self._read = model, 0

    def start(self, logits: Answer) -> None:
        """Begin; the first token comes with prefill."""

    def launch(self, position: int) -> None:
        """Wait for the next token."""
        self._model.step()

    def read(self) -> int:
        """Return the next token."""
        self._read += 1
        return self._model.token(self._read - 1)

    def save(self) -> None:
        """Return nothing: which token is next is known here."""

    def restore(self, saved: None) -> None:
        """Do nothing."""


class ScriptedAsides:
    """In the place of Asides: as many requests give way as want to, and that takes no time."""

    def __init__(self, model: ScriptedModel):
        self._model = model
        self.room, self.put, self.take_up = model.max_context, model.put_aside, model.take_up

    def let_go(self, aside: tuple) -> None:
        """Do nothing."""
