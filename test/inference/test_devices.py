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

"""Which device and precision are chosen, and what a device is called."""
import pytest
import torch

from timebill_ros.inference import devices
from timebill_ros.inference.devices import choose_device, choose_dtype, device_name
from timebill_ros.inference.model_directory import ModelError


@pytest.mark.parametrize('name', ['cuda:99', 'nonsense'])
def test_a_device_that_this_machine_lacks_is_named(name):
    with pytest.raises(ModelError, match=f"device '{name}' cannot be used"):
        choose_device(name)


def test_the_cpu_is_there_and_its_name_counts_threads():
    assert choose_device('cpu') == torch.device('cpu')
    assert choose_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')
    torch.set_num_threads(1)
    assert device_name(torch.device('cpu')).endswith(', 1 thread')


@pytest.mark.parametrize(('name', 'stored', 'emulated', 'chosen'), [
    ('auto', torch.bfloat16, False, torch.bfloat16), ('auto', None, False, torch.float32),
    ('float16', torch.bfloat16, False, torch.float16), ('auto', torch.bfloat16, True, torch.float32),
    ('bfloat16', torch.float32, True, torch.bfloat16), ('auto', torch.float64, True, torch.float64),
])
def test_on_a_cpu_the_precision_is_the_stored_one_unless_named_or_emulated(name, stored, emulated, chosen, monkeypatch):
    monkeypatch.setattr(devices, 'is_emulated', lambda dtype: emulated and dtype is torch.bfloat16)
    assert choose_dtype(name, torch.device('cpu'), stored) is chosen


@pytest.mark.parametrize(('half_s', 'emulated'), [(0.5, False), (1.0, False), (1.9, False), (4.0, True)])
def test_a_precision_is_emulated_where_it_takes_much_longer(half_s, emulated, monkeypatch):
    """One product in five is disturbed in either precision."""
    now, calls = [0.0], []

    def linear(rows, weights):
        calls.append(rows.dtype)
        seconds = half_s if rows.dtype is torch.float16 else 1.0
        now[0] += seconds * (30.0 if len(calls) in (3, 8) else 1.0)
    monkeypatch.setattr(torch.nn.functional, 'linear', linear)
    monkeypatch.setattr(devices.time, 'thread_time', lambda: now[0])
    devices.is_emulated.cache_clear()
    try:
        assert devices.is_emulated(torch.float16) == emulated
        assert not devices.is_emulated(torch.float32)
    finally:
        devices.is_emulated.cache_clear()


@pytest.mark.parametrize(('capability', 'hip', 'chosen'), [
    ((7, 2), None, torch.float16), ((7, 5), None, torch.float16), ((8, 0), None, torch.bfloat16),
    ((8, 7), None, torch.bfloat16), ((12, 0), None, torch.bfloat16), ((7, 0), '6.4', torch.bfloat16),
])
def test_on_cuda_the_precision_is_bfloat16_where_the_hardware_has_it(capability, hip, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *arguments, **options: True)  # by emulation
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    monkeypatch.setattr(torch.version, 'hip', hip)
    assert choose_dtype('auto', torch.device('cuda:1'), torch.float32) is chosen


def test_a_device_is_named_with_its_board(monkeypatch):
    """All Jetsons of one generation call their GPU the same."""
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Orin')
    monkeypatch.setattr(devices, 'board', lambda: '')
    torch.set_num_threads(1)
    cpu = device_name(torch.device('cpu'))
    assert device_name(torch.device('cuda')) == 'Orin'
    monkeypatch.setattr(devices, 'board', lambda: 'NVIDIA Jetson Orin NX')
    assert device_name(torch.device('cuda')) == 'Orin, NVIDIA Jetson Orin NX'
    assert device_name(torch.device('cpu')) == cpu.replace(', 1 thread', ', NVIDIA Jetson Orin NX, 1 thread')
