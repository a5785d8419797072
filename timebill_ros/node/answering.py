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

"""Every service call is answered, also one whose callback raises; no service waits for a slow one of another kind."""
from __future__ import annotations

import traceback
from collections.abc import Callable

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup


def answer_always(node) -> None:
    """Have each service that `node` has now send a response, whatever its callback does.

    A callback that raises is logged, and the client gets the response as the service made it before: its fields have
    their defaults, so `success` is false. Without this a client waits for good. Jazzy's lifecycle services raise for a
    transition that the present state does not allow, and a lifecycle manager waits for their answer.
    """
    for service in node.services:
        service.callback = _answering(service.callback, service.srv_name, node.get_logger())


def _answering(callback: Callable, name: str, logger) -> Callable:
    def answer(request, response):
        kind = type(response)
        try:
            given = callback(request, response)
        except Exception:
            logger.error(f'{name} failed: {traceback.format_exc()}')
            return kind()
        if not isinstance(given, kind):
            logger.error(f'{name} failed: its callback returned {type(given).__name__}, not {kind.__name__}')
            return kind()
        return given

    return answer


def separate_groups(node) -> None:
    """Give the services that `node` has now callback groups of their own: change_state one, all others one together.

    rclpy puts them all into one group, where a configure of a minute holds up get_state and the parameter services.
    Call this before an executor has the node.
    """
    transitions, others = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
    for service in node.services:
        service.callback_group = transitions if service.srv_name.endswith('/change_state') else others
        service.callback_group.add_entity(service)
