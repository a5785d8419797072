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

"""What the node asks of the worker besides goals: what a goal would take, and to read a prompt ahead."""
from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.memory import is_out_of_memory
from timebill_ros.inference.prompt_reading import read_ahead
from timebill_ros.request import Request, to_dict
from timebill_ros.worker.steering import Steering
from timebill_ros.worker.streamer import Streamer

if TYPE_CHECKING:  # the engine needs libraries of which a sentence tells where they are missing
    from timebill_ros.engine import Engine

log = logging.getLogger('timebill_ros.worker')


def estimate(engine: Engine, message: dict) -> dict:
    """Return the answer to {'op': 'estimate', 'tag': ..., 'request': ...}; it never raises."""
    def found() -> dict:
        plan, whole, n_x, prefill_s, reused = engine.estimate(Request.from_dict(message['request']))
        return {'plan': to_dict(plan), 'whole': to_dict(whole), 'prompt_tokens': n_x, 'prefill_s': prefill_s,
                'reused_tokens': reused}

    return _answer('estimate', message, found)


def prepare(engine: Engine, message: dict, steering: Steering, streamer: Streamer) -> dict:
    """Return the answer to {'op': 'prepare', 'tag': ..., 'request': ...}: how much was read; it never raises.

    Reading stops as soon as a goal waits. The streamer sends signs of life meanwhile.
    """
    request = Request.from_dict(message['request'])
    control = Control(Deadline(math.inf))

    def should_stop() -> bool:
        control.looks += 1
        control.canceled = steering.goals_waiting > 0
        return control.canceled

    def found() -> dict:
        with streamer.streaming(engine.model.tokenizer, request, control):
            n_x, ready = read_ahead(engine.model, request, chunk_tokens=engine.prefill_chunk_tokens,
                                    should_stop=should_stop)
        answer = {'prompt_tokens': n_x, 'ready_tokens': ready}
        if control.canceled:  # not by a goal that came once all was read
            told = f'a goal came: {ready} of {n_x} tokens are kept' if n_x else 'a goal came'
            answer |= {'error_code': ErrorCode.BUSY, 'error_msg': told}
        return answer

    return _answer('prepared', message, found)


def _answer(event: str, message: dict, found: Callable[[], dict]) -> dict:
    """Return an event with what `found` returns, or with the error that it raises."""
    answer = {'event': event, 'tag': message['tag']}
    try:
        return {**answer, **found()}
    except GoalError as error:
        return {**answer, 'error_code': error.code, 'error_msg': str(error)}
    except Exception as error:
        log.exception('%s failed', message['op'])
        code = ErrorCode.OUT_OF_MEMORY if is_out_of_memory(error) else ErrorCode.UNKNOWN
        return {**answer, 'error_code': code, 'error_msg': f'{type(error).__name__}: {error}'}
