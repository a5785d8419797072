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

"""What the worker has said of itself, its model and its device."""
from __future__ import annotations

import math
from dataclasses import dataclass, field

from timebill_ros.dispatch.start_watch import stage_of


@dataclass
class WorkerFacts:
    """Facts of the latest worker. Before its first message they say nothing, and times are as profiled."""

    device: str = ''  # name of the device, for diagnostics
    stage: str = ''  # what it does while it starts, in words; empty before it has said so, and once it is ready
    sampling: dict[str, float] = field(default_factory=dict)  # how the model's generation config would draw tokens
    # What was learned of the device: `timing_factor` and others, and whether they are `unusual`
    tracked: dict[str, float | bool] = field(default_factory=lambda: {'timing_factor': 1.0, 'unusual': False})
    # Memory and temperature of the device, what of them can be read; see worker/device_state.py
    device_state: dict[str, float] = field(default_factory=dict)
    device_state_s: float = -math.inf  # monotonic instant at which they were read

    def learn(self, event: dict) -> None:
        """Take what a message of the worker says."""
        self.tracked = event.get('tracked', self.tracked)
        if 'device_state' in event:
            self.device_state, self.device_state_s = event['device_state'], event['read_s']
        self.stage = stage_of(event) if event['event'] == 'progress' else ''
        if event['event'] == 'ready':
            self.device, self.sampling = event.get('device', ''), event.get('sampling', {})
