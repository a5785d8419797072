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

from timebill_ros.inference.answer_state import AnswerState
from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.prompt_state import PromptState
from timebill_ros.inference.steps.layer_calls import NotSplit
from timebill_ros.length.state_file import SUFFIX, facts_of
from timebill_ros.length.state_learner import StateLearner
from timebill_ros.settings import NO_PREDICTOR, STATES

log = logging.getLogger(__name__)


def watch_states(model: CausalLM, length_predictor: str = STATES) -> None:
    """Have the model keep the hidden state of the last prompt token, and those of answers where its steps give any.

    length_predictor:  the parameter; a file of labels says behind which layer its states were read.

    ModelError where the prompt's is not found, or the file cannot be used.
    """
    try:
        model.prompt_state = PromptState(model.model, _depth_of(length_predictor))
    except NotSplit as error:
        raise ModelError(f'length_predictor states: {model.name} has no hidden states to be read: {error}') from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(length_predictor, model, error) from error
    with model.stream.entered():  # as the engine does; the first reading makes room for a state
        model.reset()
        model.prefill([0] * MAX_WINDOW, chunk_tokens=MAX_WINDOW)
        model.synchronize()
        model.reset()
    if model.hidden is None:
        log.info('what is left of an answer is not predicted while it is decoded: the head of %s is no module of its '
                 'own, so that its steps give no hidden state', model.name)
    else:
        model.answer_state = AnswerState(model.hidden, model.stream)
    log.info('lengths are predicted from hidden states behind layer %d, and learned from the goals that are served',
             model.prompt_state.depth)


def _depth_of(length_predictor: str) -> int | None:
    """Return the depth that a file of labels names; None: the parameter names no file."""
    return int(facts_of(Path(length_predictor))['depth']) if length_predictor.endswith(SUFFIX) else None


def _unusable(length_predictor: str, model: CausalLM, error: Exception) -> ModelError:
    return ModelError(f'length_predictor {length_predictor} cannot be used: {error}. Make one for this model: '
                      f'timebill train-length-predictor --states --target {model.name}')


def by_default(model: CausalLM) -> bool:
    """Whether lengths come from this model's hidden states where the parameter leaves it open.

    On prompts of many kinds they were better than the lengths of earlier answers, and on prompts of one kind these are
    planned with (state_learner.py). Not on a GPU, where states were not tried yet.
    """
    if model.device.type != 'cpu':
        return False
    try:
        PromptState(model.model)
    except NotSplit as error:
        log.info('lengths cannot be predicted from hidden states: %s', error)
        return False
    return True


def by_states(length_predictor: str) -> bool:
    """Whether this value of the parameter asks for lengths from hidden states: the word, or a file of labels."""
    return length_predictor == STATES or length_predictor.endswith(SUFFIX)


def check_exists(length_predictor: str) -> None:
    """Raise ModelError where the parameter names what is not there, before a model is loaded for it."""
    path = Path(length_predictor)
    if length_predictor in ('', STATES, NO_PREDICTOR) or (path.is_file() if by_states(length_predictor) else
                                                         path.is_dir()):
        return
    what = 'it is not there' if not path.exists() else 'it is no directory, and no file of labels'
    raise ModelError(f'length_predictor {length_predictor} cannot be used: {what} (a relative path begins in '
                     f'{Path.cwd()}). Name what "timebill train-length-predictor" has made, a directory or with '
                     f'--states a file of labels ({SUFFIX}), or "{STATES}" or "{NO_PREDICTOR}"')


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
    made = StateLearner(len(model.prompt_state.read()), model.prompt_state.depth, path=path, model=model.name,
                        last_width=model.answer_state.width if model.answer_state is not None else 0)
    names_file = length_predictor.endswith(SUFFIX)
    if made.load():
        source = f'{path}: {length_predictor} is not read again' if names_file else str(path)
    elif names_file:
        source = length_predictor
        try:
            made.begin_with(Path(length_predictor))
        except ValueError as error:
            raise _unusable(length_predictor, model, error) from error
    else:
        return made
    log.info('%d lengths are known at the start, from %s', len(made.labels), source)
    return made
