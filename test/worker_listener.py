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

"""Takes the events of a worker that a test starts without a node."""
from __future__ import annotations

from node_client import wait_until


class Listener:
    """Takes a worker's events: the `on_event` of a WorkerProcess."""

    def __init__(self):
        self.events: list[dict] = []

    def __call__(self, event):
        self.events.append(event)

    def wait(self, kind):
        """Return the first event of this kind, once it has come."""
        return wait_until(lambda: next((event for event in self.events if event['event'] == kind), None),
                          message=f'no {kind}, only {self.events}')
