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

"""The service `~/prepare`: reads a prompt ahead while the node is idle, for goals that begin with it."""
from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.dispatch.dispatcher import Dispatcher
from timebill_ros.dispatch.pending_estimates import ReadInPart
from timebill_ros.node import translation
from timebill_ros.node.goal_server import GoalServer
from timebill_ros.srv import Prepare

FOREVER_S = 1e9  # time budget of what is read ahead: a goal that comes is what ends it
LOOK_S = 1.0  # how often a callback that waits looks whether the node is still active


class PrepareService:
    """`~/prepare` of one configured node. `state()` names the node's lifecycle state.

    `callback_group` is the service's own: a callback waits until the prompt has been read or a goal has come.
    """

    def __init__(self, node, settings: dict, dispatcher: Dispatcher, goals: GoalServer, state: Callable[[], str],
                 callback_group):
        self._node, self._settings, self._dispatcher = node, settings, dispatcher
        self._goals, self._state = goals, state
        self._service = node.create_service(Prepare, '~/prepare', self._answer, callback_group=callback_group)

    def destroy(self) -> None:
        self._node.destroy_service(self._service)

    def _answer(self, asked: Prepare.Request, response: Prepare.Response) -> Prepare.Response:
        """Wait until the prompt has been read or a goal has come; a failure is an answer too, with its code."""
        try:
            if not self._goals.is_accepting:
                raise GoalError(ErrorCode.INACTIVE, f'the node is {self._state()}, not active')
            now = time.monotonic()
            request = translation.to_request(
                Generate.Goal(prompt=asked.prompt, messages=asked.messages, tools=asked.tools), 'prepare',
                release_s=now, margin_s=0.0, deadline_in_s=None,
                settings={**self._settings, 'default_time_budget_s': FOREVER_S}, model_sampling={})
            response.prompt_tokens, response.ready_tokens = self._wait(self._dispatcher.prepare(request))
        except GoalError as error:
            response.error_code = int(error.code)
            response.error_msg = str(error)[:translation.MAX_ERROR_CHARACTERS]
            if isinstance(error, ReadInPart):
                response.prompt_tokens, response.ready_tokens = error.prompt_tokens, error.ready_tokens
        except Exception as error:  # a bug; the client must not take an answer without a code for success
            self._node.get_logger().error(f'reading a prompt ahead failed: {traceback.format_exc()}')
            response.error_code = int(ErrorCode.UNKNOWN)
            response.error_msg = f'the node failed: {type(error).__name__}: {error}'[:translation.MAX_ERROR_CHARACTERS]
        return response

    def _wait(self, future: Future[tuple[int, int]]) -> tuple[int, int]:
        """Return what the future gives, however long that takes. GoalError where the node is deactivated meanwhile."""
        while True:
            try:
                return future.result(LOOK_S)
            except FutureTimeout:
                if not self._goals.is_accepting:
                    raise GoalError(ErrorCode.INACTIVE, f'the node is {self._state()}, not active') from None
