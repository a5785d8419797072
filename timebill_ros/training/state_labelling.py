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

"""Labels for lengths from hidden states, made before a node serves: `timebill train-length-predictor --states`.

The target reads each prompt and answers it greedily, as the node does. The hidden state that its prefill leaves, with
the length of the answer, is a label (length/state_labels.py). A node whose `length_predictor` names the file begins
with these labels and goes on learning. On a CPU each core answers one prompt after another. What is answered is written
down at once (journal.py), so that the same command goes on where it stopped.
"""
from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers

from timebill_ros.codes import FinishReason, GoalError
from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode, no_collection
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_state import PromptState
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.threads import available_cores
from timebill_ros.length.hidden_state_head import FEWEST, fit, normalised
from timebill_ros.length.state_labels import CAPACITY, StateLabels, for_fitting
from timebill_ros.request import Sampling
from timebill_ros.resources import steps_directory
from timebill_ros.training.journal import Journal, beside
from timebill_ros.training.parallel import spread

CHUNK_TOKENS = 256


@dataclass(frozen=True)
class Target:
    """The model that answers, and how.

    max_new_tokens:  where an answer is cut, as goals will be.
    compiles:        decode with compiled steps, which are kept in the cache and are several times as fast.
    """

    name: str
    device: str = 'auto'
    dtype: str = 'auto'
    max_new_tokens: int = 256
    compiles: bool = True


@dataclass(frozen=True)
class Label:
    """What one prompt showed. `state`: normalised [H], or None where the model cannot take the prompt."""

    number: int
    state: np.ndarray | None
    n: int = 0
    whole: bool = False


def labels_of(target: Target, texts: list[str], out: Path, *, processes: int = 0,
              on_progress: Callable[[int], None] = lambda done: None) -> StateLabels:
    """Answer the rendered prompts, write their labels to `out`, and return them.

    processes:    that answer on a CPU, each with one thread; 0: one per core.
    on_progress:  called with the number of prompts that are done.

    ValueError where the journal beside `out` is of other prompts or another model, or none of them fits the model.
    """
    texts = texts[-CAPACITY:]  # more would push the first ones out again
    facts = {'target': target.name, 'dtype': target.dtype, 'max_new_tokens': target.max_new_tokens,
             'prompts': hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]}
    with Journal(beside(out), facts) as journal:
        done = {entry['number'] for entry in journal.entries}
        on_progress(len(done))
        left = [(number, text) for number, text in enumerate(texts) if number not in done]
        for label, depth in _answered(target, left, processes):
            journal.add({'number': label.number, 'n': label.n, 'whole': label.whole, 'depth': depth,
                         'state': None if label.state is None else _packed(label.state)})
            on_progress(len(journal.entries))
        found = sorted((entry for entry in journal.entries if entry['state'] is not None),
                       key=lambda entry: entry['number'])
    if not found:
        raise ValueError(f'none of the {len(texts)} prompts fits the context of {target.name}')
    labels = StateLabels(len(_unpacked(found[0]['state'])), found[0]['depth'])
    for entry in found:
        labels.add(_unpacked(entry['state']), entry['n'], whole=entry['whole'])
    labels.save(out, target.name)
    return labels


def _answered(target: Target, numbered: list[tuple[int, str]], processes: int) -> Iterator[tuple[Label, int]]:
    if not numbered:
        return iter(())
    alone = target.device not in ('auto', 'cpu') or (target.device == 'auto' and torch.cuda.is_available())
    processes = 1 if alone else min(processes or available_cores(), len(numbered))
    return spread(answer_share, numbered, processes, target)


def answer_share(numbered: list[tuple[int, str]], target: Target) -> Iterator[tuple[Label, int]]:
    """Load the model and answer a share of the prompts: yield (label, depth of its state). One per process."""
    logging.disable()
    transformers.utils.logging.disable_progress_bar()
    model = CausalLM(target.name, device=target.device, dtype=target.dtype, threads=1,
                     compiled_steps=steps_directory() if target.compiles else None)
    model.prompt_state = PromptState(model.model)
    for number, text in numbered:
        with torch.inference_mode(), model.stream.entered():
            yield _label(model, number, text, target.max_new_tokens), model.prompt_state.depth


def _label(model: CausalLM, number: int, text: str, max_new_tokens: int) -> Label:
    try:
        ids = model.tokenize(text, is_chat=True)
    except GoalError:
        return Label(number, None)
    model.reset()
    logits = model.prefill(ids, chunk_tokens=CHUNK_TOKENS)
    model.synchronize()
    state, cap = normalised(model.prompt_state.read()), min(max_new_tokens, model.max_context - len(ids))
    if cap < 1 or not np.isfinite(state).all():
        return Label(number, None)
    control = Control(Deadline(math.inf), tokens=[0] * cap)
    with no_collection():
        reason = decode(model, Sampler(Sampling(), model.device), logits, position=len(ids), n_kv=len(ids), cap=cap,
                        cap_reason=FinishReason.LENGTH, step_s=lambda n: 0.0, stops=StopStrings(model.tokenizer, ()),
                        control=control)
    return Label(number, state, control.n_tokens, reason is FinishReason.EOS)


def _packed(state: np.ndarray) -> str:
    return base64.b64encode(state.astype(np.float16).tobytes()).decode()


def _unpacked(state: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(state), dtype=np.float16)


def account(labels: StateLabels) -> str:
    """Return sentences on the labels: how many, how long, and what the states told of labels that were left out."""
    states, lengths, whole = labels.snapshot()
    told = (f'{len(lengths)} labels: the answers have {median(lengths):.0f} tokens in the middle, and '
            f'{1 - whole.mean():.0%} of them were cut.')
    if len(lengths) < FEWEST:
        return f'{told} That is too few: give at least {FEWEST} prompts, better hundreds.'
    head = fit(states.astype(np.float32), for_fitting(lengths, whole))
    gain, error = head.gain
    if not head.is_better:
        return f'{told} The states do not tell long answers from short ones: a node uses them only where they do.'
    return (f'{told} Knowing the states, the error of the predicted distribution (CRPS, of labels left out) is '
            f'{gain:.1f} tokens smaller than without, with a standard error of {error:.1f}.')
