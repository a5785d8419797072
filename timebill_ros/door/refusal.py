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

"""Requests that end without an answer: the HTTP status, and what is said in OpenAI's form."""
from __future__ import annotations

from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.codes import ErrorCode

INVALID, DENIED, BUSY, SERVER = ('invalid_request_error', 'authentication_error', 'rate_limit_error', 'server_error')
AGAIN_S = 1  # after how long a client may ask again
MOST_CHARACTERS = 100  # of a name that a client made up

# How a goal's error is told: HTTP status, type, and whether the request was refused before it took any time.
_ENDS = {
    ErrorCode.INVALID_GOAL: (400, INVALID, False),
    ErrorCode.PROMPT_TOO_LONG: (400, INVALID, False),
    ErrorCode.INFEASIBLE: (422, INVALID, False),
    ErrorCode.BUSY: (429, BUSY, True),
    ErrorCode.DEADLINE_MISSED: (504, SERVER, False),
    ErrorCode.INACTIVE: (503, SERVER, False),
    ErrorCode.SKIPPED: (503, SERVER, False),
    ErrorCode.PREEMPTED: (503, SERVER, False),
    ErrorCode.WORKER_LOST: (503, SERVER, False),
    ErrorCode.CANCELED: (503, SERVER, False),
}
# OpenAI's own name, which clients look for.
_CODES = {ErrorCode.PROMPT_TOO_LONG: 'context_length_exceeded'}


class Refusal(Exception):
    """A request that gets an error instead of an answer.

    `status`: of HTTP. `kind`, `code` and `param`: `type`, `code` and `param` of OpenAI's error object. `facts`: what
    the object's extra field `timebill` holds. `may_ask_again`: clients that ask again by themselves, as the `openai`
    package does, may do so. Where time has passed they may not: the caller's deadline would be overrun unseen.
    """

    def __init__(self, status: int, message: str, *, kind: str = INVALID, code: str | None = None,
                 param: str | None = None, facts: dict | None = None, may_ask_again: bool = False,
                 headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.kind, self.code, self.param, self.facts = status, kind, code, param, facts
        again = {'retry-after': str(AGAIN_S)} if may_ask_again else {}
        self.headers = {'x-should-retry': 'true' if may_ask_again else 'false', **again, **(headers or {})}

    def body(self) -> dict:
        """Return what is sent as JSON."""
        error = {'message': str(self), 'type': self.kind, 'param': self.param, 'code': self.code}
        return {'error': error if self.facts is None else {**error, 'timebill': self.facts}}


def of_result(result, facts: dict, more: str = '') -> Refusal:
    """Return how a goal's failure is told: the node's own sentence and `more`; `facts`: what became of the goal."""
    try:
        code = ErrorCode(result.error_code)
    except ValueError:  # of a newer node
        code = ErrorCode.UNKNOWN
    status, kind, may_ask_again = _ENDS.get(code, (500, SERVER, False))
    return Refusal(status, result.error_msg + more, kind=kind, code=_CODES.get(code, code.name.lower()), facts=facts,
                   may_ask_again=may_ask_again)


def of_unavailable(error: ServerUnavailable, *, may_ask_again: bool = False) -> Refusal:
    """Return how it is told that the node is not there, not active or silent."""
    return Refusal(503, str(error), kind=SERVER, code='node_unavailable', may_ask_again=may_ask_again)


def of_field(name: str, message: str, code: str = 'invalid_value') -> Refusal:
    """Return how it is told that one field of a request cannot be served."""
    return Refusal(400, message, param=sendable(name), code=code)


def sendable(name: str) -> str:
    """Return a name that a client made up, as it can be sent back: cut, and with halves of surrogate pairs escaped."""
    return name[:MOST_CHARACTERS].encode(errors='backslashreplace').decode()
