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

"""The check of streams and memory that runs on a new device: it finds planted faults, and passes without them."""
import json
from types import SimpleNamespace

import pytest
import tiny_models
import torch
from fake_cuda import FakeCuda
from mock_model import FakeClock

from timebill_ros.bench import stream_check
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.streams import stream_on

CUDA = torch.device('cuda')


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(stream_check.shapes, 'WORDS', 80)
    monkeypatch.setattr(stream_check, 'CHUNK', 8)
    return CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)


@pytest.fixture
def on_gpu(model, monkeypatch):
    """Let the model's chunks take time on a stand-in for a GPU, and another stream be busy there."""
    clock = FakeClock(0.0)
    cuda, reader = FakeCuda(clock, monkeypatch), model._reader
    model.stream = stream_on(CUDA, urgent=True)
    monkeypatch.setattr(stream_check, 'time', SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(stream_check, 'stream_on', lambda device: stream_on(CUDA))

    def busy(stream, device):
        with stream.entered(ordered=False):
            cuda.work(stream_check.BUSY_S)

    def read(token, position):
        cuda.work(0.01)
        return reader(token, position)

    monkeypatch.setattr(stream_check, 'keep_busy', busy)
    model._reader = read
    return cuda


def test_all_is_right_where_waits_are_for_ones_own_stream(on_gpu, model):
    found = stream_check.waits(model)
    assert found['right'] and found['own_s'] == pytest.approx(0.01) and found['other_s'] == stream_check.BUSY_S
    assert stream_check.stops(model)['right']


def test_a_wait_for_the_whole_device_is_found(on_gpu, model, monkeypatch):
    monkeypatch.setattr(model, 'synchronize', torch.cuda.synchronize)
    assert not stream_check.waits(model)['right']


def test_a_prefill_that_asks_for_all_chunks_at_once_is_found(on_gpu, model, monkeypatch):
    monkeypatch.setattr('timebill_ros.inference.streams._CudaEvent.wait', lambda self: None)
    assert not stream_check.stops(model)['right']


def test_weights_that_are_held_twice_are_found(model, monkeypatch):
    monkeypatch.setattr(stream_check, 'SPARE_BYTES', 0)
    peaks = iter([0, 100 << 10, 0, 0])  # KiB
    monkeypatch.setattr(stream_check, 'resource', SimpleNamespace(
        RUSAGE_SELF=0, getrusage=lambda of: SimpleNamespace(ru_maxrss=next(peaks))))
    assert not stream_check.memory(lambda: model, torch.device('cpu'))[1]['right']
    assert stream_check.memory(lambda: model, torch.device('cpu'))[1]['right']


def test_it_runs_on_a_cpu_and_says_what_it_did_not_check(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stream_check, 'CHUNKS', 4)
    monkeypatch.setattr(stream_check, 'stops', lambda model: {'check': 'measured elsewhere', 'right': True})
    assert stream_check.run('tiny', 'cpu', tmp_path)
    found = json.loads((tmp_path / 'streams_tiny.json').read_text())
    assert found['right'] and set(found['facts']) == {'board', 'power_mode', 'clock_limits', 'bfloat16'}
    assert 'not checked: waits beside another stream' in capsys.readouterr().out
