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

"""Memory and temperature of a device, read from files like those of Linux and from a stand-in for CUDA."""
from types import SimpleNamespace

import pytest
import torch

from timebill_ros.worker.device_state import CPU_SENSORS, GPU_SENSORS, PERIOD_S, DeviceState, sensors, system_memory

CPU = SimpleNamespace(type='cpu')
MEMINFO = 'MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    4000 kB\nHugePages_Total:   0\n'


@pytest.fixture
def machine(tmp_path):
    """Writes files below a folder that stands for /."""
    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write('proc/meminfo', MEMINFO)
    write.root = tmp_path
    return write


def test_the_memory_of_the_system(machine):
    assert system_memory(machine.root) == (4000 << 10, 16000 << 10)
    machine('proc/meminfo', 'MemTotal: 16000 kB\n')
    assert system_memory(machine.root) is None
    assert system_memory(machine.root / 'nowhere') is None


def test_a_processor_without_sensors_tells_its_memory_alone(machine):
    message = DeviceState(CPU, root=machine.root, clock=lambda: 5.0).message()
    assert message == {'device_state': {'memory_used': 12000 << 10, 'memory_total': 16000 << 10}, 'read_s': 5.0}


@pytest.mark.parametrize(('kinds', 'degrees'), [(CPU_SENSORS, [47000, 51500]), (GPU_SENSORS, [44000])])
def test_zones_of_a_jetson(machine, kinds, degrees):
    for number, (kind, temp) in enumerate((('cpu-thermal', 47000), ('GPU-therm', 44000), ('soc0-thermal', 60000),
                                           ('CPU-therm', 51500), ('tj-thermal', 62000))):
        machine(f'sys/class/thermal/thermal_zone{number}/type', f'{kind}\n')
        machine(f'sys/class/thermal/thermal_zone{number}/temp', f'{temp}\n')
    assert [int(file.read_text()) for file in sensors(machine.root, kinds)] == degrees


def test_the_hottest_sensor_counts_and_one_that_cannot_be_read_does_not(machine):
    machine('sys/class/hwmon/hwmon0/name', 'nvme\n')
    machine('sys/class/hwmon/hwmon0/temp1_input', '90000\n')
    machine('sys/class/hwmon/hwmon1/name', 'k10temp\n')
    for number, text in enumerate(('55250\n', '61000\n', ''), 1):
        machine(f'sys/class/hwmon/hwmon1/temp{number}_input', text)
    state = DeviceState(CPU, root=machine.root).message()['device_state']
    assert state['temperature'] == 61.0


def test_it_is_not_read_more_often_than_that(machine):
    clock = iter([10.0, 10.0 + PERIOD_S / 2, 10.0 + PERIOD_S]).__next__
    state = DeviceState(CPU, root=machine.root, clock=clock)
    assert [state.message().get('read_s') for _ in range(3)] == [10.0, None, 10.0 + PERIOD_S]


class Card:
    """A stand-in for torch.cuda; `degrees` None: nvidia-ml-py is not installed."""

    def __init__(self, degrees, *, integrated=False, broken=False):
        self.degrees, self.integrated, self.broken, self.asked = degrees, integrated, broken, 0

    def get_device_properties(self, _):
        return SimpleNamespace(is_integrated=self.integrated)

    def mem_get_info(self, _):
        if self.broken:
            raise RuntimeError('CUDA error: an illegal memory access was encountered')
        return 3 << 30, 8 << 30

    def temperature(self, _):
        self.asked += 1
        if self.degrees is None:
            raise ModuleNotFoundError('nvidia-ml-py does not seem to be installed')
        return self.degrees


@pytest.mark.parametrize(('card', 'expected'), [
    (Card(61), {'memory_used': 5 << 30, 'memory_total': 8 << 30, 'temperature': 61.0}),
    (Card(None), {'memory_used': 5 << 30, 'memory_total': 8 << 30}),
    (Card(61, broken=True), {}),
    (Card(61, integrated=True), {'memory_used': 12000 << 10, 'memory_total': 16000 << 10, 'temperature': 44.0}),
])
def test_a_gpu(machine, monkeypatch, card, expected):
    machine('sys/class/thermal/thermal_zone0/type', 'gpu-thermal\n')
    machine('sys/class/thermal/thermal_zone0/temp', '44000\n')
    monkeypatch.setattr(torch, 'cuda', card)
    times = iter([0.0, 10.0]).__next__
    state = DeviceState(SimpleNamespace(type='cuda'), root=machine.root, clock=times)
    assert [state.message()['device_state'] for _ in range(2)] == [expected] * 2
    assert card.asked == (1 if card.degrees is None else 0 if card.integrated or card.broken else 2)
