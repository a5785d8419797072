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

"""What can go wrong between a client and the node, with the names of the codes."""
from __future__ import annotations

from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode

# The node never sends these three; Generate.action keeps their numbers for clients.
_OF_CLIENTS = ('TIMEOUT', 'GOAL_REJECTED', 'SEND_GOAL_FAILURE')
_NAMES = {**{int(code): code.name for code in ErrorCode},
          **{getattr(Generate.Result, name): name for name in _OF_CLIENTS}}


class ServerUnavailable(RuntimeError):
    """The node is not there, not active, or did not answer in time.

    `code` is the number among Generate.Result's error codes that says which: TIMEOUT, GOAL_REJECTED or
    SEND_GOAL_FAILURE.
    """

    def __init__(self, message: str, code: int = Generate.Result.TIMEOUT):
        super().__init__(message)
        self.code = code


def code_name(number: int) -> str:
    """Return the name of an error code; the number itself where a newer node sends one that is unknown here."""
    return _NAMES.get(number, str(number))
