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

"""The order of work on a device and the waits for it, with stand-ins for CUDA's streams."""
import threading

import pytest
import tiny_models
import torch
from fake_cuda import FakeCuda
from mock_model import FakeClock

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.streams import stream_on

CUDA = torch.device('cuda')
CHUNK_S, ASKING_S = 10.0, 6.0


@pytest.fixture
def cuda(monkeypatch):
    return FakeCuda(FakeClock(0.0), monkeypatch)


def test_on_a_cpu_there_is_nothing_to_wait_for():
    stream = stream_on(torch.device('cpu'), urgent=True)
    with stream.entered(), stream.entered(ordered=False):
        event = stream.event()
        event.wait()
        event.record()
        event.wait()
    stream.wait()


def test_a_wait_is_for_the_stream_that_the_thread_is_on_and_not_for_others(cuda):
    model, predictor = stream_on(CUDA, urgent=True), stream_on(CUDA)
    assert [stream.priority for stream in cuda.streams[1:]] == [-1, 0]
    with predictor.entered(ordered=False):
        cuda.work(100.0)
    with model.entered():
        cuda.work(3.0)
        model.wait()
        assert cuda.clock.now == 3.0
    with predictor.entered(ordered=False):
        predictor.wait()
    assert cuda.clock.now == 100.0


def test_what_is_entered_comes_after_what_went_before_and_before_what_follows(cuda):
    stream = stream_on(CUDA)
    cuda.work(5.0)  # weights on their way, for one
    with stream.entered():
        cuda.work(2.0)
        with stream.entered():  # again, to no effect
            cuda.work(1.0)
    stream.wait()  # on the thread's own stream
    assert cuda.clock.now == 8.0


def test_a_failure_inside_leaves_the_thread_on_its_own_stream(cuda):
    stream = stream_on(CUDA)
    with pytest.raises(ValueError, match='of the test'), stream.entered():
        raise ValueError('of the test')
    assert cuda.current is cuda.default


def test_each_thread_has_a_stream_of_its_own(cuda):
    stream, seen = stream_on(CUDA), []
    with stream.entered():
        thread = threading.Thread(target=lambda: seen.append(cuda.current))
        thread.start()
        thread.join()
        assert seen == [cuda.default] and cuda.current is not cuda.default


def test_an_event_is_a_point_in_the_stream_and_can_be_recorded_again(cuda):
    stream = stream_on(CUDA)
    with stream.entered():
        event = stream.event()
        event.wait()
        assert cuda.clock.now == 0.0, 'none was recorded'
        cuda.work(4.0)
        event.record()
        cuda.work(4.0)
        event.wait()
        assert cuda.clock.now == 4.0
        event.record()
        event.wait()
        assert cuda.clock.now == 8.0


class Reader:
    """Reads chunks on a device that takes longer for each than the thread that asks it to."""

    kind = 'modules'

    def __init__(self, cuda, step):
        self.cuda, self.step, self.ends = cuda, step, []

    def __call__(self, token, position):
        self.cuda.clock.now += ASKING_S
        self.cuda.work(CHUNK_S)
        self.ends.append(self.cuda.current.done_s)
        return self.step(token, position)

    @property
    def asked(self) -> int:
        return len(self.ends)

    @property
    def done(self) -> int:
        return sum(end <= self.cuda.clock.now for end in self.ends)


@pytest.fixture
def reading(cuda):
    """Return a model whose prefill runs on the stand-in and asks between chunks only, and what reads its chunks."""
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)
    model.stream, model._reader, model._attentions = stream_on(CUDA, urgent=True), Reader(cuda, model._reader), {}
    model.reset()
    return model, model._reader


def test_prefill_asks_at_every_chunk_and_never_lets_the_device_idle(reading, cuda):
    model, reader = reading
    seen = []
    with model.stream.entered():
        model.prefill(tiny_models.prompt_ids(60), chunk_tokens=10,
                      should_stop=lambda: seen.append((reader.asked, reader.done)))
        assert seen == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)], 'one chunk is left to compute at each question'
        model.synchronize()
    assert reader.done == 6 and cuda.clock.now == ASKING_S + 6 * CHUNK_S, 'it waits for its first chunk only'


def test_a_cancel_is_seen_while_the_device_has_a_chunk_left(reading):
    model, reader = reading
    with model.stream.entered():
        logits = model.prefill(tiny_models.prompt_ids(60), chunk_tokens=10, should_stop=lambda: reader.done >= 2)
        model.synchronize()
    assert logits is None and reader.asked == reader.done == 3
