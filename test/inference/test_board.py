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

"""What boards tell of themselves, from files as they lie on them."""
import os
import subprocess
from types import SimpleNamespace

import pytest
import torch

from timebill_ros.inference import board as boards
from timebill_ros.inference.board import board, clock_limits, power_mode

CPU, CUDA = torch.device('cpu'), torch.device('cuda')
MODES = """< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
GPU MAX_FREQ 612000000
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< POWER_MODEL ID=10 NAME=10W >
# mandatory section to configure the default mode
< PM_CONFIG DEFAULT=1 >
"""


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_the_board_is_what_its_device_tree_says(tmp_path):
    assert board(tmp_path) == ''
    write(tmp_path, {'proc/device-tree/model': 'NVIDIA Jetson AGX Orin Developer Kit\0'})
    assert board(tmp_path) == 'NVIDIA Jetson AGX Orin Developer Kit'


@pytest.mark.parametrize(('files', 'mode'), [
    ({}, ''),
    ({'var/lib/nvpmodel/status': 'pmode:0000\n', 'etc/nvpmodel.conf': MODES}, '15W (pmode:0000)'),
    ({'var/lib/nvpmodel/status': 'pmode:0002\n', 'etc/nvpmodel.conf': MODES}, 'MAXN_SUPER (pmode:0002)'),
    ({'var/lib/nvpmodel/status': 'pmode:0010\n', 'etc/nvpmodel.conf': MODES}, '10W (pmode:0010)'),
    ({'var/lib/nvpmodel/status': 'pmode:0007\n', 'etc/nvpmodel.conf': MODES}, 'pmode:0007'),
    ({'var/lib/nvpmodel/status': 'pmode:0002\n'}, 'pmode:0002'),
    ({'var/lib/nvpmodel/status': 'something new\n'}, 'something new'),
    ({'etc/nvpmodel.conf': MODES}, '25W (pmode:0001)'),
    ({'sys/firmware/acpi/platform_profile': 'balanced\n',
      'sys/devices/system/cpu/cpu0/cpufreq/scaling_governor': 'powersave\n'}, 'balanced'),
    ({'sys/devices/system/cpu/cpu0/cpufreq/scaling_governor': 'performance\n'}, 'performance'),
    ({'var/lib/nvpmodel/status': 'pmode:0000\n',
      'sys/devices/system/cpu/cpu0/cpufreq/scaling_governor': 'schedutil\n'}, 'pmode:0000'),
])
def test_the_power_mode_is_the_one_that_the_system_keeps(files, mode, tmp_path):
    write(tmp_path, files)
    assert power_mode(tmp_path) == mode


JETSON = {'sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq': '115200\n',
          'sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq': '1510400\n',
          'sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq': '115200\n',
          'sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq': '1510400\n',
          'sys/class/devfreq/15340000.vic/device/of_node/name': 'vic\0',
          'sys/class/devfreq/15340000.vic/max_freq': '729600000\n',
          'sys/class/devfreq/17000000.gpu/device/of_node/name': 'gpu\0',
          'sys/class/devfreq/17000000.gpu/min_freq': '306000000\n',
          'sys/class/devfreq/17000000.gpu/max_freq': '624750000\n',
          'sys/kernel/nvpmodel_emc_cap/emc_iso_cap': '2133000000\n'}


def test_clock_limits_are_those_that_files_tell(tmp_path):
    assert clock_limits(CPU, tmp_path) == ''
    write(tmp_path, JETSON)
    assert clock_limits(CUDA, tmp_path) == 'cpu 115-1510 MHz, gpu 306-624 MHz, memory to 2133 MHz'
    assert clock_limits(CPU, tmp_path) == 'cpu 115-1510 MHz, memory to 2133 MHz'
    write(tmp_path, {'sys/class/devfreq/17000000.gpu/min_freq': '624750000\n',  # what jetson_clocks does
                     'sys/kernel/nvpmodel_emc_cap/emc_iso_cap': '0\n',
                     'sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq': '2000000\n'})
    assert clock_limits(CUDA, tmp_path) == 'cpu 115-1510 MHz, cpu 115-2000 MHz, gpu 624-624 MHz'


@pytest.mark.parametrize(('script', 'limits'), [
    ('echo "$@" > $0.asked; echo "350.00 W"', 'gpu to 350.00 W'), ('echo "[N/A]"', ''), ('exit 9', ''),
    ('sleep 60', ''), (None, '')])
def test_of_a_card_the_power_limit_counts_where_nvidia_smi_tells_it(script, limits, tmp_path, monkeypatch):
    monkeypatch.setattr(boards, 'ASKING_S', 20.0 if script and 'echo' in script else 0.3)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: SimpleNamespace(uuid='8f3c-1b'))
    tool = tmp_path / 'bin' / 'nvidia-smi'
    tool.parent.mkdir()
    if script:
        tool.write_text(f'#!/bin/sh\n{script}\n')
        tool.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tool.parent}{os.pathsep}/usr/bin{os.pathsep}/bin')
    assert clock_limits(CUDA, tmp_path) == limits
    if limits:
        assert '--id=GPU-8f3c-1b ' in (tool.parent / 'nvidia-smi.asked').read_text()


def test_a_torch_that_does_not_tell_which_card_it_is_costs_its_limit_only(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: SimpleNamespace())
    monkeypatch.setattr(subprocess, 'run', None)  # not called
    assert clock_limits(CUDA, tmp_path) == ''
