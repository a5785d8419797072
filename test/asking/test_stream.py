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

"""Waiting: nothing that happens is slept through, by threads or by coroutines."""
import asyncio
import threading
import time

import pytest

from timebill_ros.asking.stream import Bell, Pause, Stream

WAIT_S = 60.0  # for what takes no time on a quiet machine


class Source:
    """A list that grows. Its stream ends once it is closed."""

    def __init__(self):
        self.bell, self.items, self.is_closed, self.abandoned = Bell(), [], False, False

    def put(self, item):
        self.items.append(item)
        self.bell.ring()

    def close(self):
        self.is_closed = True
        self.bell.ring()

    def abandon(self):
        self.abandoned = True

    def _steps(self):
        done = 0
        while True:
            count, is_closed = self.bell.count, self.is_closed
            for item in self.items[done:]:
                done += 1
                yield item
            if is_closed:
                return
            yield Pause(count, WAIT_S)

    @property
    def stream(self):
        return Stream(self.bell, self._steps, self.abandon)

    def fill(self, n):
        for item in range(n):
            self.put(item)
        self.close()


@pytest.fixture
def source():
    return Source()


def read(source, how):
    if how == 'thread':
        return list(source.stream)

    async def collect():
        return [item async for item in source.stream]

    return asyncio.run(collect())


@pytest.mark.parametrize('how', ['thread', 'coroutine'])
def test_each_loop_gets_everything_in_order(source, how):
    writer = threading.Thread(target=source.fill, args=(1000,))
    writer.start()
    assert read(source, how) == list(range(1000))
    writer.join()
    assert read(source, how) == list(range(1000))  # again, from its beginning


def test_a_ring_between_looking_and_waiting_is_not_slept_through(source):
    pause = Pause(source.bell.count, WAIT_S)
    source.bell.ring()
    began = time.monotonic()
    source.bell.wait(pause)
    asyncio.run(source.bell.wait_async(pause))
    assert time.monotonic() - began < WAIT_S / 2


@pytest.mark.parametrize('seconds', [0.0, 0.02])
def test_a_pause_ends_after_its_time(source, seconds):
    source.bell.wait(Pause(0, seconds))
    asyncio.run(source.bell.wait_async(Pause(0, seconds)))
    assert source.bell.count == 0 and source.bell._listeners == []


def test_a_coroutine_that_is_canceled_abandons_what_it_waits_for(source):
    async def give_up():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(source.stream.__aiter__()), 0.05)

    asyncio.run(give_up())
    assert source.abandoned and source.bell._listeners == []
    source.bell.ring()  # and nobody is called in a loop that is closed


@pytest.mark.parametrize('rounds', range(5))
def test_a_cancel_that_comes_with_a_ring_is_not_lost(rounds):
    async def give_up():
        bell = Bell()
        waiting = asyncio.create_task(bell.wait_async(Pause(0, 60.0)))
        await asyncio.sleep(0.01)
        bell.ring()
        for _ in range(rounds):
            await asyncio.sleep(0)
        was_over = waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled() or was_over

    asyncio.run(give_up())
