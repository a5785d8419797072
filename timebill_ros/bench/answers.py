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

"""Answers of a model to tasks, without a deadline, by the parts that the engine runs.

What runs is the chat template, prefill in chunks, eviction down to a number of entries, and the token loop.
"""
from __future__ import annotations

import math
import time

import torch

from timebill_ros.codes import FinishReason, GoalError
from timebill_ros.deadline import Clock, Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode, no_collection
from timebill_ros.inference.eviction import MAX_WINDOW
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.text import decode as decode_text
from timebill_ros.planning.solver import smallest_keep
from timebill_ros.request import Request
from timebill_ros.tasks.scored_task import ScoredTask

RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)


def entries_to_keep(n_x: int, ratio: float, max_eviction_ratio: float) -> int:
    """Return n_keep: floor((1 - ratio) * N_x), but no fewer than `max_eviction_ratio` leaves.

    The tolerance is for products that rounding has put above the whole number that they stand for.
    """
    return max(n_x - math.ceil(ratio * n_x - 1e-4), smallest_keep(n_x, max_eviction_ratio, MAX_WINDOW))


def request_for(task, max_new_tokens: int) -> Request:
    """Return a task as a request without a deadline, to be answered greedily; `task` is any that has `messages`."""
    return Request('', 0.0, math.inf, messages=task.messages, max_new_tokens=max_new_tokens)


def answer(model: CausalLM, request: Request, logits, *, n_x: int, n_kv: int) -> str:
    """Return the answer on a filled cache of `n_kv` entries; `logits` [V] are of the prompt's `n_x` tokens."""
    return generate(model, request, logits, n_x=n_x, n_kv=n_kv)[0]


def generate(model: CausalLM, request: Request, logits, *, n_x: int, n_kv: int,
             clock: Clock = time.monotonic) -> tuple[str, int, FinishReason]:
    """Return (text, number of tokens, why it ended) of that answer; `clock` as in `generate_ids`."""
    ids, reason = generate_ids(model, request, logits, n_x=n_x, n_kv=n_kv, clock=clock)
    text = StopStrings(model.tokenizer, request.sampling.stop).cut(text_of(model, ids))
    return text, len(ids), reason


def generate_ids(model: CausalLM, request: Request, logits, *, n_x: int, n_kv: int,
                 clock: Clock = time.monotonic) -> tuple[list[int], FinishReason]:
    """Return (tokens, the end token among them, why it ended) of that answer.

    `clock` is read once for every token but the last.
    """
    cap = min(request.max_new_tokens, model.max_context - n_x)
    control = Control(Deadline(request.deadline_s, clock), tokens=[0] * cap)
    with torch.inference_mode(), no_collection():
        reason = decode(model, Sampler(request.sampling, model.device), logits, position=n_x, n_kv=n_kv, cap=cap,
                        cap_reason=FinishReason.LENGTH, step_s=lambda n: 0.0,
                        stops=StopStrings(model.tokenizer, request.sampling.stop), control=control)
    return control.tokens[:control.n_tokens], reason


def text_of(model: CausalLM, ids: list[int]) -> str:
    """Return the text of an answer's tokens, without an end token."""
    return decode_text(model.tokenizer, ids[:-1] if ids and ids[-1] in model.eos_ids else ids)


def prompt_ids(model: CausalLM, task: ScoredTask) -> list[int]:
    """Return the tokens of a task's prompt. ModelError where the model cannot take it."""
    try:
        return model.tokenize(model.render(request_for(task, 1)), is_chat=True)
    except GoalError as error:
        raise ModelError(f'task {task.key} of family {task.family}: {error}') from error


def that_fit(model: CausalLM, tasks: list[ScoredTask]) -> list[ScoredTask]:
    """Return the tasks that fit the model's context with their longest answers. ModelError where none does."""
    found, reason = [], ''
    for task in tasks:
        try:
            n_x = len(prompt_ids(model, task))
        except ModelError as error:
            reason = str(error)
            continue
        if n_x + task.max_new_tokens <= model.max_context:
            found.append(task)
        else:
            reason = (f'task {task.key} of family {task.family}: a prompt of {n_x} tokens and an answer of '
                      f'{task.max_new_tokens} do not fit the context of {model.max_context}')
    if not found:
        raise ModelError(f'no task fits the model; {reason}')
    if len(found) < len(tasks):
        print(f'{len(tasks) - len(found)} of {len(tasks)} tasks are left out; {reason}')
    return found
