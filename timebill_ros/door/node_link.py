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

"""The node as the door sees it: is it there, what keeps it from answering, which goals are on their way to it."""
from __future__ import annotations

import asyncio

from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.asking.goals import check_goal
from timebill_ros.client import PATIENCE_S, TimebillClient
from timebill_ros.door.goal_events import GoalEvents
from timebill_ros.door.refusal import SERVER, Refusal, of_unavailable

LOOK_S = 2.0  # how long a node that is not there is looked for, before a request is refused
LATE_S = 60.0  # how much longer the answer of a goal that may run late is waited for


class NodeLink:
    """Sends goals through `client`, and waits for the node on another thread, so that the event loop never does."""

    def __init__(self, client: TimebillClient):
        self.client = client
        self._looking: asyncio.Task | None = None
        self._goals: set[GoalEvents] = set()
        self._is_ending = False

    async def wait_until_ready(self) -> None:
        """Return once the node may be sent a goal. Refusal, with what to do, where it is not there."""
        self._check_open()
        if not self.client.actions.server_is_ready():
            await self.look()

    def _check_open(self) -> None:
        if self._is_ending:
            raise Refusal(503, 'the door is being closed', kind=SERVER, code='door_closing')

    async def look(self) -> None:
        """Return once the node is active. Refusal, with what to do, where it is not after LOOK_S.

        Requests that come meanwhile wait for the same look, so that one thread is enough for all.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(asyncio.to_thread(self._look))
        refusal = await asyncio.shield(self._looking)
        if refusal is not None:
            raise refusal

    def _look(self) -> Refusal | None:
        try:
            self.client.wait_until_active(LOOK_S)
        except ServerUnavailable as error:
            return of_unavailable(error, may_ask_again=True)
        return None

    def send(self, goal, budget_s: float, *, may_run_late: bool) -> GoalEvents:
        """Send a goal whose budget is set. ValueError for what no goal can carry, Refusal where the door has ended."""
        self._check_open()  # it may have ended while the node was looked for
        check_goal(goal)
        sent = GoalEvents(self.client, goal, budget_s + (LATE_S if may_run_late else PATIENCE_S))
        self._goals.add(sent)
        return sent

    def forget(self, sent: GoalEvents) -> None:
        """Hear that nobody waits for the goal any more."""
        self._goals.discard(sent)

    def end(self) -> None:
        """Cancel all goals, and take no more."""
        self._is_ending = True
        for sent in list(self._goals):
            sent.close()
