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

"""An executor that gives each callback to its pool of threads once."""
from __future__ import annotations

import math
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from rclpy.executors import (
    ConditionReachedException,
    Executor,
    ExternalShutdownException,
    InvalidHandle,
    ShutdownException,
    TimeoutException,
)

BEGIN_S = 0.005  # the longest that the loop waits for a thread to begin a callback; reached only if all are busy
YIELD_S = 0.0005  # a pause that lets the threads of the pool run


class PoolExecutor(Executor):
    """Runs callbacks in a pool of threads; stands in for rclpy's MultiThreadedExecutor.

    rclpy's executor looks for work again before a thread of its pool has begun the callback that it was just given,
    finds the same callback, and hands it over again. With rclpy 9.1 on two cores a callback was handed over up to
    5,000 times, while every thread of the process stood still for up to 1.5 s: longer than the budgets that this
    server keeps.

    A callback that raises is logged, and the executor goes on.
    """

    def __init__(self, num_threads: int, logger, *, context=None):
        super().__init__(context=context)
        self._logger = logger
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix='callback')
        self._given = set()  # tasks handed to the pool and not yet over
        self._is_ending = False

    def spin_once(self, timeout_sec: float | None = None) -> None:
        try:
            task, _, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ConditionReachedException, ExternalShutdownException, ShutdownException, TimeoutException):
            return
        except InvalidHandle:  # something was destroyed, by a cleanup, while it was looked at; the next round goes on
            return
        if task in self._given:  # found again, because no thread has begun it yet
            time.sleep(YIELD_S)
            return
        begun = threading.Event()
        self._given.add(task)
        if self._is_ending:  # asked after the task was added, because shutdown sets this before it looks for tasks
            self._given.discard(task)
            time.sleep(YIELD_S)
            return
        self._pool.submit(self._run, task, begun)
        begun.wait(BEGIN_S)

    def _run(self, task, begun: threading.Event) -> None:
        begun.set()
        try:
            task()
            if task.done():
                task.result()
        except Exception:
            self._logger.error(f'a callback failed: {traceback.format_exc()}')
        finally:
            self._given.discard(task)

    def spin_to_the_end(self) -> None:
        """Spin until the executor is shut down. Whatever rclpy raises is logged and must not end the node."""
        while True:
            try:
                self.spin()
                return
            except ExternalShutdownException:
                return
            except Exception:
                self._logger.error(f'the executor failed: {traceback.format_exc()}')
                time.sleep(0.05)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Begin no more callbacks and wait for those that run; return whether they all ended.

        rclpy's own shutdown does not wait: it sets its flag and then skips the wait because the flag is set. A slow
        service would then answer through a node that is already destroyed.
        """
        self._is_ending = True
        until_s = time.monotonic() + (math.inf if timeout_sec is None or timeout_sec < 0 else timeout_sec)
        while self._given and time.monotonic() < until_s:
            time.sleep(YIELD_S)
        are_done = not self._given
        super().shutdown(0.0)
        self._pool.shutdown(wait=False)
        return are_done
