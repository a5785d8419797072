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

"""Behaviours for py_trees: `Ask` puts a question with a deadline into a behaviour tree."""
from __future__ import annotations

from collections.abc import Collection

try:
    import py_trees
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError('timebill_ros.behaviours needs py_trees: install ros-$ROS_DISTRO-py-trees, or "pip '
                              'install py_trees" where ROS 2 does not come from apt') from missing
from py_trees.common import Access, Status

from timebill_ros.client import PendingGoal, ServerUnavailable, TimebillClient, bad_news, code_name
from timebill_ros.codes import ErrorCode, Phase, Verdict


class Ask(py_trees.behaviour.Behaviour):
    """Asks the node, and gives the tree a whole answer by its deadline or a FAILURE as early as that is known.

    Reads from the blackboard when it starts:

    - `messages`: the user's text, or a conversation (dictionaries with a role and a content)
    - `budget_s`: the deadline, in seconds from now

    Writes to the blackboard:

    - `answer`: the text, on SUCCESS; until then, and on FAILURE, it is not there, whatever stood there before
    - `error`: on FAILURE, the name of the code (INFEASIBLE, DEADLINE_MISSED, BUSY, ...; TIMEOUT, GOAL_REJECTED or
      SEND_GOAL_FAILURE where the node is not there); until then, and on SUCCESS, empty. `feedback_message` has the
      sentence too.

    `keys` gives these four other names: keys={'answer': '/plan/text'}. A goal that is `hopeless` by its status fails at
    once and is canceled; a behaviour that is interrupted cancels its goal. An answer that the deadline cut is a FAILURE
    unless `keep_cut`. `fields`: further fields of Generate.Goal, such as max_new_tokens. No tick waits.

    `client`: one to share with others, which stays open. Without, `setup(node=...)` makes one for the node `server`,
    as py_trees_ros hands its node to behaviours, and `shutdown` closes it.
    """

    def __init__(self, name: str = 'Ask', client: TimebillClient | None = None, *, server: str = 'timebill',
                 keys: dict[str, str] | None = None, hopeless: Collection[int] = (Verdict.INFEASIBLE,),
                 keep_cut: bool = False, **fields):
        super().__init__(name)
        self._client, self._server, self._own_client = client, server, None
        self._hopeless, self._keep_cut, self._fields = hopeless, keep_cut, fields
        self._pending: PendingGoal | None = None
        self._failure: tuple[str, str] | None = None  # the code's name and a sentence, where it could not be sent
        self._keys = {key: key for key in ('messages', 'budget_s', 'answer', 'error')}
        unknown = set(keys or {}) - set(self._keys)
        if unknown:
            raise ValueError(f'keys names {sorted(unknown)[0]}; there are {", ".join(self._keys)}')
        self._keys |= keys or {}
        self._board = self.attach_blackboard_client(name=name)
        for key, access in (('messages', Access.READ), ('budget_s', Access.READ), ('answer', Access.WRITE),
                            ('error', Access.WRITE)):
            self._board.register_key(self._keys[key], access=access)

    def setup(self, **kwargs) -> None:
        """Make a client unless there is one. KeyError where no `node` is given then."""
        if self._client is None:
            if 'node' not in kwargs:
                raise KeyError(f'{self.name} has no client: give it one, or call setup(node=...) with a ROS node')
            self._client = self._own_client = TimebillClient(kwargs['node'], self._server)

    def shutdown(self) -> None:
        """Close the client that `setup` made."""
        if self._own_client is not None:
            self._own_client.close()
            self._client = self._own_client = None

    def initialise(self) -> None:
        """Send the question; what keeps it from being sent is told by `update`."""
        if self._client is None:
            raise RuntimeError(f'{self.name} has no client: give it one, or set the tree up with setup(node=...)')
        self._pending = self._failure = None
        self._board.unset(self._keys['answer'])  # nobody shall act on the answer to an earlier question
        self._write('error', '')
        try:
            self._pending = self._client.ask(self._read('messages'), float(self._read('budget_s')), **self._fields)
        except ServerUnavailable as error:
            self._failure = code_name(error.code), str(error)
        except (KeyError, TypeError, ValueError) as error:  # of the blackboard, or of what stands there
            self._failure = ErrorCode.INVALID_GOAL.name, str(error)

    def update(self) -> Status:
        if self._failure is not None:
            return self._fail(*self._failure)
        try:
            answer = self._pending.poll()
        except ServerUnavailable as error:
            return self._fail(code_name(error.code), str(error))
        if answer is not None:
            return self._end(answer)
        status = self._pending.status
        if status is None:
            self.feedback_message = 'sent'
            return Status.RUNNING
        news = bad_news(status, self._hopeless)
        if news:
            code = code_name(status.error_code) if status.error_code else \
                (ErrorCode.DEADLINE_MISSED if status.overrun else ErrorCode.INFEASIBLE).name
            return self._fail(code, news)
        self.feedback_message = f'{Phase(status.phase).name}, {status.generated_tokens} tokens'
        return Status.RUNNING

    def terminate(self, new_status: Status) -> None:
        """Cancel the goal where nobody waits for it any more."""
        if self._pending is not None and not self._pending.is_over:
            self._pending.cancel()
        self._pending = None

    def _end(self, answer) -> Status:
        result = answer.result
        if result.error_code:
            return self._fail(answer.code, result.error_msg)
        if result.finish_reason == result.FINISH_DEADLINE and not self._keep_cut:
            return self._fail(ErrorCode.DEADLINE_MISSED.name, 'the deadline cut the answer')
        self._write('answer', result.text)
        self._write('error', '')
        self.feedback_message = f'answered in {answer.received_s:.2f} s'
        return Status.SUCCESS

    def _fail(self, code: str, sentence: str) -> Status:
        self._write('error', code)
        self.feedback_message = f'{code}: {sentence}'
        return Status.FAILURE

    def _read(self, key: str):
        return self._board.get(self._keys[key])

    def _write(self, key: str, value) -> None:
        self._board.set(self._keys[key], value)
