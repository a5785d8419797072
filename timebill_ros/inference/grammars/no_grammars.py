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

"""What stands in the place of grammars where answers cannot be given a form. Needs neither torch nor the library."""
from __future__ import annotations

from collections.abc import Callable

from timebill_ros.codes import ErrorCode, GoalError, ToolChoice
from timebill_ros.request import Request


class NoGrammars:
    """Refuses goals that ask for a form; `reason`: a sentence about why, and what to do."""

    def __init__(self, reason: str):
        self.reason = reason

    def start(self, request: Request) -> None:
        """Do nothing for a goal that asks for no form. GoalError for one that does."""
        if request.has_form:
            raise GoalError(ErrorCode.INVALID_GOAL,
                            f'response_schema, choices and regex are not served here: {self.reason}')
        if request.tool_choice is ToolChoice.REQUIRED:
            raise GoalError(ErrorCode.INVALID_GOAL, f'tool_choice REQUIRED is not served here: {self.reason}')

    def collect(self, started: None, should_stop: Callable[[], bool]) -> None:
        """Return None: there is no form."""

    def restricted(self, model, answer: None):
        """Return `model`, which decodes as it is."""
        return model
