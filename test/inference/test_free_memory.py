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

"""What is free: the least that system, control group and limits of the process allow, or what the GPU has."""
import resource
from types import SimpleNamespace

import pytest
import torch

from timebill_ros.inference import free_memory

CPU = torch.device('cpu')


def test_this_machine_has_memory():
    assert 0 < free_memory.free_bytes(CPU) < 1 << 50


@pytest.mark.parametrize(('most', 'left'), [('max', None), (str(10 << 20), (10 - 6 + 2) << 20), (str(1 << 20), 0)])
def test_a_container_may_take_what_its_control_group_leaves(most, left, tmp_path):
    """Files in its page cache can be given up."""
    (tmp_path / 'memory.max').write_text(f'{most}\n')
    (tmp_path / 'memory.current').write_text(f'{6 << 20}\n')
    (tmp_path / 'memory.stat').write_text(f'anon 5\ninactive_file {2 << 20}\n')
    assert free_memory._left_of_control_group(str(tmp_path)) == left
    assert free_memory._left_of_control_group(str(tmp_path / 'none')) is None


def test_what_the_system_can_give_is_read_from_meminfo(tmp_path):
    (tmp_path / 'meminfo').write_text('MemTotal: 2000 kB\nMemFree: 10 kB\nMemAvailable:   700 kB\n')
    assert free_memory._available_memory(str(tmp_path / 'meminfo')) == 700 << 10
    assert free_memory._available_memory(str(tmp_path / 'none')) is None


def test_the_least_limit_counts(monkeypatch):
    monkeypatch.setattr(free_memory, '_available_memory', lambda: 900)
    monkeypatch.setattr(free_memory, '_left_of_control_group', lambda: 500)
    assert free_memory.free_bytes(CPU) == 500
    monkeypatch.setattr(resource, 'getrlimit', lambda which: (1, 1))
    assert free_memory.free_bytes(CPU) == 0


@pytest.mark.parametrize('integrated', [False, True])
def test_a_gpu_tells_itself_but_for_one_that_shares_memory_with_the_cpu(integrated, monkeypatch):
    """On a board, what CUDA calls free leaves out the page cache."""
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: SimpleNamespace(is_integrated=integrated))
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (123, 456))
    monkeypatch.setattr(free_memory, '_available_memory', lambda: 77)
    assert free_memory.free_bytes(torch.device('cuda')) == (77 if integrated else 123)
