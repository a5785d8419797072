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

"""rclpy's action server, which stamps when a goal came, and hands over every goal that it has accepted.

Where sending an acceptance fails, rclpy keeps the goal as accepted and tells nobody: not the client, and not the code
that serves goals. The RMW drops a response where it has not discovered the client's reader within 0.1 s, which on a
loaded machine happens to a client that has just started.
"""
from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from rclpy.action import ActionServer
from rclpy.action.server import RCLError

RETRIES_S = (0.2, 0.5)  # pauses before an acceptance is sent once more


class HandingActionServer(ActionServer):
    """An action server for which every goal that it accepts has an owner.

    Each accepted goal is handed to one of two callbacks: `handle_accepted_callback`, or `handle_unanswered_callback`
    where the acceptance could not be sent, whatever was tried. Both take the goal's handle and its release, the
    monotonic instant at which it came.
    """

    def __init__(self, *arguments, handle_accepted_callback: Callable, handle_unanswered_callback: Callable, **options):
        self._on_accepted, self._on_unanswered = handle_accepted_callback, handle_unanswered_callback
        # Hears of each request's id and sequence number, in the order in which requests are taken.
        self.on_request: Callable[[str, int], None] = lambda request_id, sequence_number: None
        self.on_result_request: Callable[[str], None] = lambda request_id: None  # hears of each goal that is asked for
        self._take_lock = threading.Lock()
        self._late: list[threading.Thread] = []  # that send acceptances again
        self._coming: dict[bytes, float] = {}  # goals that are not handed over yet: id -> release
        super().__init__(*arguments, handle_accepted_callback=self._hand_over, **options)

    def _hand_over(self, handle) -> None:
        self._on_accepted(handle, self._coming.pop(bytes(handle.goal_id.uuid), time.monotonic()))

    def take_data(self):
        """Take what has come. rclpy calls this from any of its executor's threads."""
        with self._take_lock:
            taken = super().take_data()
            if 'goal' in taken:
                header, request = taken['goal']
                self.on_request(bytes(request.goal_id.uuid).hex(), header.sequence_number)
            if 'result' in taken:
                self.on_result_request(bytes(taken['result'][1].goal_id.uuid).hex())
            return taken

    async def _execute_goal_request(self, request_header_and_message) -> None:
        """Do what rclpy does, and see to a goal that it drops. rclpy calls this for each goal that comes."""
        header, request = request_header_and_message
        goal_id = bytes(request.goal_id.uuid)
        self._coming[goal_id] = time.monotonic()
        try:
            await super()._execute_goal_request(request_header_and_message)
        except RCLError as error:  # Humble's rclpy does not catch it itself
            self._logger.warning(f'a goal response could not be sent: {error}')
        release_s = self._coming.pop(goal_id, None)
        if release_s is None:
            return  # handed over, the usual case
        handle = self._goal_handles.get(goal_id)
        if handle is not None and handle.request is request.goal:  # it was accepted, and no other has had the id before
            # On a thread of its own: a few such goals would otherwise keep all threads of the executor busy.
            self._late = [thread for thread in self._late if thread.is_alive()]
            self._late.append(threading.Thread(target=self._answer_late, args=(header, handle, release_s), daemon=True))
            self._late[-1].start()

    def _answer_late(self, header, handle, release_s: float) -> None:
        hand_over = self._on_accepted if self._answers_late(header, handle) else self._on_unanswered
        hand_over(handle, release_s)

    def destroy(self) -> None:
        for thread in self._late:
            thread.join()
        super().destroy()

    def _answers_late(self, header, handle) -> bool:
        """Send an acceptance again; whether it was sent."""
        response = self._action_type.Impl.SendGoalService.Response(accepted=True, stamp=handle._goal_info.stamp)
        for pause_s in RETRIES_S:
            time.sleep(pause_s)
            try:
                with self._lock:
                    self._handle.send_goal_response(header, response)
            except RCLError:
                continue
            with contextlib.suppress(RCLError):  # the acceptance is out
                self._handle.publish_status()
            return True
        return False
