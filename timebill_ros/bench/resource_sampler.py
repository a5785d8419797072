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

"""The memory of a node and its worker over time."""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from timebill_ros.bench.node_under_load import Node
from timebill_ros.bench.process_state import n_zombies, resources


@dataclass
class Sampler:
    """Notes memory (resident MB), open files and threads of the node, its worker and other processes once a second."""

    node: Node
    others: dict[str, int] = field(default_factory=dict)  # name -> process id
    rows: list[dict] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Add a row a second until `stop` is set; for a thread."""
        while not self.stop.wait(1.0):
            worker = self.node.worker_pid()
            row = {'at_s': time.monotonic(), 'worker': worker, 'zombies': n_zombies(self.node.pid)}
            for name, pid in (('node', self.node.pid), ('worker', worker), *self.others.items()):
                found = resources(pid) if pid is not None else None
                if found is not None:
                    row.update({f'{name}_mb': found[0], f'{name}_files': found[1], f'{name}_threads': found[2]})
            self.rows.append(row)
