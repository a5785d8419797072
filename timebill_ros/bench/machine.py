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

"""What a result was measured on: no number without its hardware."""
from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import torch

from timebill_ros.inference.devices import device_name, library_versions
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.threads import available_cores


def describe(model: CausalLM) -> dict:
    """Return device, cores, load, model and library versions, for a result's head."""
    return {**describe_device(model.device), 'model': Path(model.name).name, 'dtype': model.variant}


def describe_device(device: torch.device) -> dict:
    """Return the same without the model, where no model's times are measured."""
    return {'device': device_name(device), 'cores': available_cores(), 'load_average': os.getloadavg()[0],
            'versions': library_versions(),
            'date': datetime.datetime.now().astimezone().isoformat(timespec='seconds')}


def write(path: Path, result: dict) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + '\n')
    print(f'written to {path}')
