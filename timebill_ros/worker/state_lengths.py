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
from timebill_ros.settings import STATES

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


def by_states(length_predictor: str) -> bool:
    """Whether this value of the parameter asks for lengths from hidden states: the word, or a file of labels."""
    return length_predictor == STATES or length_predictor.endswith(SUFFIX)


def learner(model: CausalLM, state: Path | None, length_predictor: str = STATES) -> StateLearner | None:
    """Return what predicts lengths from the states that the model keeps; None where it keeps none.

    state:             the file of what requests taught; that of the states lies beside it, and is gone on from. None:
                       nothing is kept.
    length_predictor:  the parameter; a file of labels is what to begin with where nothing was kept.

    ModelError for a file of labels that cannot be used.
    """
    if model.prompt_state is None:
        return None
    path = state.with_suffix(SUFFIX) if state is not None else None
    made = StateLearner(len(model.prompt_state.read()), model.prompt_state.depth, path=path, model=model.name)
    if not made.load() and length_predictor != STATES:
        try:
            made.begin_with(Path(length_predictor))
        except ValueError as error:
            raise ModelError(f'length_predictor {length_predictor} cannot be used: {error}. Make one for this model: '
                             f'timebill train-length-predictor --states --target {model.name}') from error
    return made
