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

from timebill_ros.inference.devices import choose_device, choose_dtype, device_name, power_mode
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


@pytest.mark.parametrize(('name', 'stored', 'chosen'), [
    ('auto', torch.bfloat16, torch.bfloat16), ('auto', None, torch.float32), ('float16', torch.bfloat16, torch.float16),
])
def test_on_a_cpu_the_precision_is_the_stored_one_unless_named(name, stored, chosen):
    assert choose_dtype(name, torch.device('cpu'), stored) is chosen


def test_the_power_mode_is_what_the_first_file_that_exists_says(tmp_path):
    jetson, laptop = tmp_path / 'nvpmodel', tmp_path / 'platform_profile'
    assert power_mode([jetson, laptop, tmp_path]) == ''
    laptop.write_text('balanced\n')
    assert power_mode([jetson, laptop]) == 'balanced'
    jetson.write_text('pmode:0002\n')
    assert power_mode([jetson, laptop]) == 'pmode:0002'
