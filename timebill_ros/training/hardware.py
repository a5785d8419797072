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

"""The name of the hardware, for the training facts: a time says nothing without it."""

import os

import torch

from timebill_ros.inference.devices import device_name


def hardware(device: str) -> str:
    """Return the name of a torch device such as 'cuda'; for a CPU with its threads and cores."""
    name = device_name(torch.device(device))
    return name if device.startswith('cuda') else f'{name} of {os.cpu_count()} cores'
