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

"""The target's answers to prompts, with the hidden states that its prefill leaves: what labels of lengths are made of.

Prefill and decoding are those of the node, greedy. Answers are decoded side by side where the model allows it
(inference/side_by_side.py), on a CPU in one process for each core. What is answered is written down at once
(journal.py), by prompt, so the same command goes on where it stopped, and one with more prompts where another ended.
"""
from __future__ import annotations

import base64
import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import transformers

from timebill_ros.codes import FinishReason, GoalError
from timebill_ros.deadline import Deadline
from timebill_ros.inference.answer_state import AnswerState
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode, no_collection
from timebill_ros.inference.devices import choose_device
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_state import CandidateStates
from timebill_ros.inference.side_by_side import ROWS, Row, SideBySide, is_possible
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.threads import available_cores
from timebill_ros.length.hidden_state_head import normalised
from timebill_ros.request import Sampling
from timebill_ros.training.answer_looks import LOOK_TOKENS, Looks, OneAnswersLooks, SideBySideLooks
from timebill_ros.training.journal import Journal
from timebill_ros.training.parallel import spread

if TYPE_CHECKING:
    import torch

CHUNK_TOKENS = 256


@dataclass(frozen=True)
class Target:
    """The model that answers, and how.

    max_new_tokens:  where an answer is cut, as goals will be.
    rows:            answers at once, in one process, at most.
    """

    name: str
    device: str = 'auto'
    dtype: str = 'auto'
    max_new_tokens: int = 256
    rows: int = ROWS


@dataclass(frozen=True)
class Answer:
    """What one prompt showed. `key`: of its text, see `key_of`; `prompt_tokens` and `n` in tokens.

    states:  normalised, float16 [H], by depth in layers; None where the model cannot take the prompt.
    n:       tokens of the answer; `whole`: it ended by itself, and was not cut after so many.
    looks:   its own states while it was decoded, see answer_looks.py; none where the model's steps give no state.
    """

    key: str
    prompt_tokens: int = 0
    states: dict[int, np.ndarray] | None = None
    n: int = 0
    whole: bool = False
    looks: Looks = field(default_factory=list)


def key_of(text: str) -> str:
    """Return what a rendered prompt is known by."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def answers_to(target: Target, texts: list[str], journal: Path, *, processes: int = 0,
               on_progress: Callable[[int], None] = lambda done: None) -> list[Answer]:
    """Have the target answer rendered prompts; return an answer for each, those in the journal without the target.

    processes:    that answer on a CPU, each with one thread; 0: one per core.
    on_progress:  called with the number of different prompts that are done.

    ValueError where the journal is of another model, precision or longest answer.
    """
    keys = [key_of(text) for text in texts]
    facts = {'target': target.name, 'dtype': target.dtype, 'max_new_tokens': target.max_new_tokens,
             'states': 'by depth, and of answers'}
    with Journal(journal, facts) as written:
        known = {entry['prompt']: _answer(entry) for entry in written.entries}
        left = [text for key, text in dict(zip(keys, texts, strict=True)).items() if key not in known]
        done = len(set(keys)) - len(left)
        on_progress(done)
        for answer in _answered(target, left, processes):
            written.add(_entry(answer))
            known[answer.key] = answer
            done += 1
            on_progress(done)
    return [known[key] for key in keys]


def _answered(target: Target, texts: list[str], processes: int) -> Iterator[Answer]:
    if not texts:
        return iter(())
    alone = choose_device(target.device).type != 'cpu'
    return spread(answer_share, texts, 1 if alone else min(processes or available_cores(), len(texts)), target)


def answer_share(texts: list[str], target: Target) -> Iterator[Answer]:
    """Load the model and answer a share of the prompts, in the order in which answers end. One per process."""
    logging.disable()
    transformers.utils.logging.disable_progress_bar()
    model = CausalLM(target.name, device=target.device, dtype=target.dtype, threads=1)
    model.prompt_state = CandidateStates(model.model)
    with model.stream.entered():
        if is_possible(model):
            yield from _side_by_side(model, texts, target)
        else:
            yield from (_alone(model, text, target.max_new_tokens) for text in texts)


def _side_by_side(model: CausalLM, texts: list[str], target: Target) -> Iterator[Answer]:
    looks = SideBySideLooks()
    batch = SideBySide(model, rows=target.rows, after_step=looks)
    waiting = iter(texts)
    asked = _tokenized(model, next(waiting, None), target.max_new_tokens)
    while asked is not None or batch.rows:
        while asked is not None and (asked.cap < 1 or batch.has_room(len(asked.ids) + asked.cap)):
            read = _read(model, asked)
            if read is None:
                yield Answer(asked.key)
            else:
                logits, states = read
                row = batch.begin((asked, states), logits, len(asked.ids), asked.cap)
                if row.is_over:
                    yield _finished(row, looks)
            asked = _tokenized(model, next(waiting, None), target.max_new_tokens)
        if batch.rows:
            yield from (_finished(row, looks) for row in batch.step())


@dataclass(frozen=True)
class _Asked:
    """A prompt as the model takes it. `cap`: tokens of its answer at most; 0: it does not fit the model."""

    key: str
    ids: list[int]
    cap: int


def _tokenized(model: CausalLM, text: str | None, max_new_tokens: int) -> _Asked | None:
    if text is None:
        return None
    try:
        ids = model.tokenize(text, is_chat=True)
    except GoalError:
        return _Asked(key_of(text), [], 0)
    return _Asked(key_of(text), ids, max(0, min(max_new_tokens, model.max_context - len(ids))))


def _read(model: CausalLM, asked: _Asked) -> tuple[torch.Tensor, dict[int, np.ndarray]] | None:
    """Have the model read a prompt: the logits [V] and the states by depth; None where there are none."""
    if asked.cap < 1:
        return None
    model.reset()
    logits = model.prefill(asked.ids, chunk_tokens=CHUNK_TOKENS)
    model.synchronize()
    states = {depth: normalised(state).astype(np.float16) for depth, state in model.prompt_state.read().items()}
    return (logits, states) if all(np.isfinite(state).all() for state in states.values()) else None


def _finished(row: Row, looks: SideBySideLooks) -> Answer:
    (asked, states), found = row.item, looks.taken(row)
    if not row.is_finite:
        return Answer(asked.key)
    return Answer(asked.key, len(asked.ids), states, len(row.tokens), row.ended, _halved(found))


def _alone(model: CausalLM, text: str, max_new_tokens: int) -> Answer:
    """Answer one prompt by itself, where a model does not answer side by side."""
    asked = _tokenized(model, text, max_new_tokens)
    read = _read(model, asked)
    if read is None:
        return Answer(asked.key)
    logits, states = read
    if model.hidden is not None:
        model.answer_state = model.answer_state or AnswerState(model.hidden, model.stream)
    looks = OneAnswersLooks(model.answer_state) if model.answer_state is not None else None
    control = Control(Deadline(math.inf), tokens=[0] * asked.cap)
    try:
        with no_collection(), model.drawing(Sampling(), asked.ids) as sampler:
            reason = decode(model, sampler, logits, position=len(asked.ids), n_kv=len(asked.ids), cap=asked.cap,
                            cap_reason=FinishReason.LENGTH, step_s=lambda n: 0.0,
                            stops=StopStrings(model.tokenizer, ()), control=control, replan_tokens=LOOK_TOKENS,
                            replan=looks)
    except GoalError:  # NaN or infinity
        return Answer(asked.key)
    return Answer(asked.key, len(asked.ids), states, control.n_tokens, reason is FinishReason.EOS,
                  _halved(looks.found) if looks is not None else [])


def _halved(looks: Looks) -> Looks:
    """Return the looks in half precision, as labels keep them; they are normalised."""
    return [(at, states.astype(np.float16)) for at, states in looks]


# -- in the journal ---------------------------------------------------------------------------------------------------

def _entry(answer: Answer) -> dict:
    states = None if answer.states is None else {str(depth): base64.b64encode(state.tobytes()).decode()
                                                 for depth, state in answer.states.items()}
    return {'prompt': answer.key, 'prompt_tokens': answer.prompt_tokens, 'n': answer.n, 'whole': answer.whole,
            'states': states, 'looks': [[at, base64.b64encode(one.tobytes()).decode()] for at, one in answer.looks]}


def _answer(entry: dict) -> Answer:
    states = None if entry['states'] is None else {
        int(depth): np.frombuffer(base64.b64decode(state), dtype=np.float16)
        for depth, state in entry['states'].items()}
    looks = [(at, np.frombuffer(base64.b64decode(one), dtype=np.float16)) for at, one in entry['looks']]
    return Answer(entry['prompt'], entry['prompt_tokens'], states, entry['n'], entry['whole'], looks)
