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

"""The service `~/estimate_time`: what a goal would take and whether it would fit, without running it."""
from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout

from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode, GoalError, Verdict
from timebill_ros.dispatch.dispatcher import Dispatcher
from timebill_ros.dispatch.pending_estimates import ESTIMATE_TIMEOUT_S
from timebill_ros.node import translation
from timebill_ros.node.goal_server import GoalServer
from timebill_ros.request import Request
from timebill_ros.srv import EstimateTime

FOREVER_S = 1e9  # time budget of an estimate that asks about none


class EstimateService:
    """`~/estimate_time` of one configured node. `state()` names the node's lifecycle state."""

    def __init__(self, node, settings: dict, dispatcher: Dispatcher, goals: GoalServer, state: Callable[[], str],
                 callback_group):
        self._node, self._settings, self._dispatcher = node, settings, dispatcher
        self._goals, self._state = goals, state
        self._service = node.create_service(EstimateTime, '~/estimate_time', self._answer,
                                            callback_group=callback_group)

    def destroy(self) -> None:
        self._node.destroy_service(self._service)

    def _answer(self, asked: EstimateTime.Request, response: EstimateTime.Response) -> EstimateTime.Response:
        """Wait for an estimate, at most ESTIMATE_TIMEOUT_S; a failure is an answer too, with its code."""
        response.wcet_without_eviction_s = response.wcet_with_eviction_s = response.eviction_ratio = math.nan
        response.waiting_s = math.nan
        try:
            if not self._goals.is_accepting:
                raise GoalError(ErrorCode.INACTIVE, f'the node is {self._state()}, not active')
            answer = self._dispatcher.estimate(self._request(asked)).result(ESTIMATE_TIMEOUT_S + 1.0)
        except GoalError as error:
            response.error_code = int(error.code)
            response.error_msg = str(error)[:translation.MAX_ERROR_CHARACTERS]
            return response
        except FutureTimeout:  # the dispatcher was closed meanwhile
            response.error_code, response.error_msg = int(ErrorCode.INACTIVE), 'the node is shutting down'
            return response
        except Exception as error:  # a bug; the client must not take an answer without a code for an estimate
            self._node.get_logger().error(f'an estimate failed: {traceback.format_exc()}')
            response.error_code = int(ErrorCode.UNKNOWN)
            response.error_msg = f'the node failed: {type(error).__name__}: {error}'[:translation.MAX_ERROR_CHARACTERS]
            return response
        for name, value in vars(answer).items():
            setattr(response, name, value)
        has_deadline = translation.seconds(asked.time_budget) > 0 or translation.seconds(asked.deadline) > 0
        response.verdict = int(answer.verdict if has_deadline else Verdict.UNKNOWN)
        return response

    def _request(self, asked: EstimateTime.Request) -> Request:
        """Return the goal that is asked about, released now. GoalError for one that could not run."""
        fields = {name: getattr(asked, name) for name in asked.get_fields_and_field_types()}
        release_s = time.monotonic()
        return translation.to_request(
            Generate.Goal(**fields), 'estimate', release_s=release_s, margin_s=self._goals.delivery_margin_s(),
            deadline_in_s=self._goals.deadline_in_s(asked.deadline, release_s),
            settings={**self._settings, 'default_time_budget_s': FOREVER_S},
            model_sampling=self._dispatcher.facts.sampling)
