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

"""A node with the names of the real one, in the test's own process: what it does is the first word of the prompt.

- say ...: streams the other words, and succeeds with them
- cut ...: succeeds with the other words, cut at the deadline
- fail: ends with BUSY
- hopeless: a status with the verdict INFEASIBLE, and no answer until it is canceled
- hang: no word at all until it is canceled
- impossible: an estimate with the verdict INFEASIBLE
- mute: an estimate that comes after a second
"""
from __future__ import annotations

import itertools
import threading
import time

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from node_client import WAIT_S
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.signals import SignalHandlerOptions

from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode, Phase, Verdict
from timebill_ros.msg import RequestStatus, Timing
from timebill_ros.node.executor import PoolExecutor
from timebill_ros.srv import EstimateTime, Prepare

_number = itertools.count(1)


def words_of(request) -> list[str]:
    return (request.messages[-1].content if request.messages else request.prompt).split()


class AnsweringNode:
    """A context manager; `node` is the ROS node /answering_N/timebill, `program` another one in its context."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[], signal_handler_options=SignalHandlerOptions.NO)
        self.namespace = f'/answering_{next(_number)}'
        self.node = rclpy.create_node('timebill', namespace=self.namespace, context=self.context)
        self.program = rclpy.create_node('planner', namespace=self.namespace, context=self.context)
        self.asked: list[str] = []  # the first words of all goals
        self.canceled = threading.Event()
        self._is_closed, self._is_stopped = threading.Event(), False
        group = ReentrantCallbackGroup()
        self._actions = ActionServer(self.node, Generate, '~/generate', self._execute, callback_group=group,
                                     cancel_callback=lambda handle: CancelResponse.ACCEPT)
        self._status = self.node.create_publisher(RequestStatus, '~/status', 50)
        self.node.create_service(EstimateTime, '~/estimate_time', self._estimate, callback_group=group)
        self.node.create_service(Prepare, '~/prepare', self._prepare, callback_group=group)
        self.node.create_service(GetState, '~/get_state', self._state, callback_group=group)
        self._executor = PoolExecutor(6, self.node.get_logger(), context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)

    def __enter__(self) -> AnsweringNode:
        self._thread.start()
        return self

    def stop(self, wait_s: float = 0.0) -> None:
        """End the node, with no result for the goals that do not end within `wait_s`."""
        if not self._is_stopped:
            self._is_stopped = True
            self._executor.shutdown(wait_s)
            self._thread.join(WAIT_S)
            self._actions.destroy()
            self.node.destroy_node()

    def __exit__(self, *_) -> None:
        self._is_closed.set()
        self.stop(5.0)
        self.program.destroy_node()
        rclpy.try_shutdown(context=self.context)

    @property
    def server(self) -> str:
        return f'{self.namespace}/timebill'

    def _state(self, request, response):
        response.current_state = State(id=State.PRIMARY_STATE_ACTIVE, label='active')
        return response

    def _estimate(self, request, response):
        word = words_of(request)[0]
        if word == 'mute':
            self._is_closed.wait(1.0)
        response.verdict = int(Verdict.INFEASIBLE if word == 'impossible' else Verdict.FITS)
        return response

    def _prepare(self, request, response):
        response.prompt_tokens = response.ready_tokens = len(words_of(request))
        return response

    def _publish(self, handle, **fields) -> None:
        self._status.publish(RequestStatus(request_id=bytes(handle.goal_id.uuid).hex(), **fields))

    def _execute(self, handle) -> Generate.Result:
        word, *words = words_of(handle.request)
        self.asked.append(word)
        self._publish(handle, phase=int(Phase.QUEUED), verdict=int(Verdict.UNKNOWN))
        if word in ('say', 'cut'):
            self._publish(handle, phase=int(Phase.DECODE), verdict=int(Verdict.FITS), generated_tokens=1)
            for text in words:
                handle.publish_feedback(Generate.Feedback(phase=int(Phase.DECODE), text_delta=text + ' '))
                time.sleep(0.02)
            handle.succeed()
            finish = Generate.Result.FINISH_DEADLINE if word == 'cut' else Generate.Result.FINISH_EOS
            return Generate.Result(text=' '.join([*words, 'end']), finish_reason=finish, timing=Timing())
        if word == 'fail':
            handle.abort()
            return Generate.Result(error_code=int(ErrorCode.BUSY), error_msg='32 goals wait already')
        if word == 'hopeless':
            self._publish(handle, phase=int(Phase.DECODE), verdict=int(Verdict.INFEASIBLE), slack_s=-3.0,
                          predicted_tokens=900)
        while not handle.is_cancel_requested and not self._is_closed.wait(0.01):
            pass
        if handle.is_cancel_requested:
            self.canceled.set()
            handle.canceled()
        else:
            handle.abort()
        return Generate.Result(error_code=int(ErrorCode.CANCELED), error_msg='canceled')
