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

"""Lengths from hidden states, set up while loading: what prefill is to keep, and what learns from it."""
from __future__ import annotations

import logging
from pathlib import Path

from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.prompt_state import PromptState
from timebill_ros.inference.steps.layer_calls import NotSplit
from timebill_ros.length.state_file import SUFFIX
from timebill_ros.length.state_learner import StateLearner

log = logging.getLogger(__name__)


def watch_states(model: CausalLM) -> None:
    """Have the model's prefill keep the hidden state of the last prompt token. ModelError where that is not found."""
    try:
        model.prompt_state = PromptState(model.model)
    except NotSplit as error:
        raise ModelError(f'length_predictor states: {model.name} has no hidden states to be read: {error}') from error
    with model.stream.entered():  # as the engine does; the first reading makes room for a state
        model.reset()
        model.prefill([0] * MAX_WINDOW, chunk_tokens=MAX_WINDOW)
        model.synchronize()
        model.reset()
    log.info('lengths are predicted from hidden states behind layer %d, and learned from the goals that are served',
             model.prompt_state.depth)


def learner(model: CausalLM, state: Path | None) -> StateLearner | None:
    """Return what predicts lengths from the states that the model keeps; None where it keeps none.

    `state`: the file of what requests taught; that of the states lies beside it, and is gone on from. None: nothing is
    kept.
    """
    if model.prompt_state is None:
        return None
    path = state.with_suffix(SUFFIX) if state is not None else None
    made = StateLearner(len(model.prompt_state.read()), model.prompt_state.depth, path=path, model=model.name)
    made.load()
    return made
