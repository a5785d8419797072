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

"""The node that a client talks through, and the thread that receives for it."""
from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from timebill_ros.asking.failures import ServerUnavailable

AGAIN_S = 2.0  # after so long without an answer, what may be asked twice is asked again
# Held while something of ROS is made. The type support of an interface is loaded at its first use, and ROS takes it for
# whole before its parts are there: where two threads made clients at once, one of them could not convert its messages.
LOADING = threading.Lock()


class Connection:
    """A node of its own in `context`, which a thread spins.

    So a program's callbacks may wait for answers, whatever executor the program uses and whether it spins or not. And
    goals are sent from the thread that takes the responses: rclpy can lose a response that another thread takes.
    `destroyed_first`: what has to be destroyed before the node, which rclpy does not do for action clients.
    """

    def __init__(self, name: str, context: Context, *, namespace: str | None = None,
                 use_global_arguments: bool = False):
        if not context.ok():
            raise ValueError('the context is not initialised, or was shut down')
        # The program's own remappings, such as -r __node:=NAME, are for its nodes and would rename this one too.
        with LOADING:
            self.node = Node(name, context=context, namespace=namespace, use_global_arguments=use_global_arguments)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._is_closed, self.lost = False, ''  # `lost`: why nothing is received any more
        self.destroyed_first: list = []
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def start(self) -> None:
        """Begin to receive, once everything that the node shall have is there."""
        self._thread.start()

    def _spin(self) -> None:
        reason = 'the client was closed'
        try:
            while not self._is_closed:
                self._executor.spin_once(0.1)
                self.on_round()
        except ExternalShutdownException:
            reason = "the program's ROS context was shut down"
        except Exception as error:  # of a callback that the program gave
            reason = f'a callback of the client raised {type(error).__name__}: {error}'
            raise
        finally:
            self.lost = reason
            self.on_lost(reason)

    def on_round(self) -> None:
        """Hear that messages were looked for; called about ten times a second, from the thread that receives."""

    def on_lost(self, reason: str) -> None:
        """Hear that nothing is received any more; called once, from the thread that has received."""

    def _stop(self) -> None:
        self._is_closed = True

    def close(self) -> None:
        """Do what is left for the thread, end it, and destroy the node. A second call does nothing."""
        if self._executor is None:
            return
        self._executor.create_task(self._stop)
        self._thread.join()
        self._executor.shutdown()
        self._executor = None
        for entity in self.destroyed_first:
            entity.destroy()
        self.node.destroy_node()

    def on_executor(self, work: Callable[[], object]) -> None:
        """Have the thread that takes responses do `work`; nothing happens once that thread has ended."""
        executor = self._executor
        if executor is not None:
            executor.create_task(work)

    def call(self, service, request, timeout_s: float, again_s: float = AGAIN_S):
        """Return a service's response; ServerUnavailable after `timeout_s`, since rclpy's futures never time out.

        Every `again_s` without an answer the service is called again: the RMW drops an answer to a client that it has
        not discovered yet. So call only what may be called twice.
        """
        until = time.monotonic() + timeout_s
        answered: queue.SimpleQueue = queue.SimpleQueue()
        futures = []
        try:
            while True:
                futures.append(service.call_async(request))
                futures[-1].add_done_callback(answered.put)
                with contextlib.suppress(queue.Empty):
                    return answered.get(timeout=max(0.0, min(until - time.monotonic(), again_s))).result()
                if time.monotonic() >= until:
                    raise ServerUnavailable(f'{service.srv_name} did not answer in {timeout_s:.1f} s')
        finally:
            for future in futures:
                service.remove_pending_request(future)
