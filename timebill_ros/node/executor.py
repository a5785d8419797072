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
    ShutdownException,
    TimeoutException,
)

BEGIN_S = 0.005  # how long the loop waits for a thread to take a callback: all of it only where every one is busy
YIELD_S = 0.0005


class PoolExecutor(Executor):
    """Runs callbacks in a pool of threads, as rclpy's MultiThreadedExecutor does, whose place it takes.

    That one looks for work again before a thread of its pool has begun the callback it was just given, finds the same
    one, and gives it again. With rclpy 9.1 on two cores a callback was given up to 5,000 times, while every thread of
    the process stood still for up to 1.5 s: longer than the budgets that this server keeps.

    A callback that raises is logged, and the executor goes on.
    """

    def __init__(self, num_threads: int, logger, *, context=None):
        super().__init__(context=context)
        self._logger = logger
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix='callback')
        self._given = set()  # tasks that a thread has, or is going to take
        self._is_ending = False

    def spin_once(self, timeout_sec: float | None = None) -> None:
        try:
            task, _, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ConditionReachedException, ExternalShutdownException, ShutdownException, TimeoutException):
            return
        if task in self._given:  # found again, because it has not begun
            time.sleep(YIELD_S)
            return
        begun = threading.Event()
        self._given.add(task)
        if self._is_ending:  # asked after the task was added: shutdown sets this before it looks for tasks
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

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Begin no callback any more and wait for those that run; whether they all ended.

        rclpy's own shutdown does not wait (it asks whether it was called right after it noted that it was), so the
        answer of a service that takes time could meet a node that was destroyed.
        """
        self._is_ending = True
        until_s = time.monotonic() + (math.inf if timeout_sec is None or timeout_sec < 0 else timeout_sec)
        while self._given and time.monotonic() < until_s:
            time.sleep(YIELD_S)
        are_done = not self._given
        super().shutdown(0.0)
        self._pool.shutdown(wait=False)
        return are_done
