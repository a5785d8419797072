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

"""Messages of the status and stats topics that were recorded, and are read back without ROS.

A recording is JSON: {"about": what it is of, "messages": [[topic, heard_s, fields], ...]}. A message has only the
fields that differ from those of the one before on its topic. A stamp is [sec, nanosec], NaN is null, and `heard_s`
counts from the first message.
"""
from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

STAMPS = ('release', 'deadline', 'predicted_finish')
DEMO = Path(__file__).parent / 'rqt' / 'demo.json'


class Recorder:
    """Makes rows of a recording."""

    def __init__(self):
        self.rows: list[list] = []
        self._last: dict[str, dict] = {}

    def take(self, topic: str, heard_s: float, message) -> None:
        """Add a message of ROS."""
        fields = {name: getattr(message, name) for name in message.get_fields_and_field_types() if name != 'header'}
        fields = {'stamp': message.header.stamp, **fields}
        for name in {'stamp', *STAMPS} & set(fields):
            fields[name] = [fields[name].sec, fields[name].nanosec]
        fields = {name: (None if math.isnan(value) else round(value, 6)) if isinstance(value, float) else value
                  for name, value in fields.items()}
        last = self._last.get(topic, {})
        self.rows.append([topic, round(heard_s, 3), {name: value for name, value in fields.items()
                                                     if name not in last or last[name] != value}])
        self._last[topic] = fields


def read(path: Path = DEMO) -> list[tuple[str, float, SimpleNamespace]]:
    """Return (topic, heard_s, message) of each message; a message has the fields of the ROS message."""
    last: dict[str, dict] = {}
    found = []
    for topic, heard_s, changed in json.loads(path.read_text())['messages']:
        last[topic] = {**last.get(topic, {}), **changed}
        found.append((topic, heard_s, _message(dict(last[topic]))))
    return found


def _message(fields: dict) -> SimpleNamespace:
    header = SimpleNamespace(stamp=_stamp(fields.pop('stamp')))
    values = {name: _stamp(value) if name in STAMPS else math.nan if value is None else value
              for name, value in fields.items()}
    return SimpleNamespace(header=header, **values)


def _stamp(pair: list[int]) -> SimpleNamespace:
    return SimpleNamespace(sec=pair[0], nanosec=pair[1])


class Replay:
    """A clock and a listener for a window that shows a recording up to an instant.

    `listen` and `clock` are what DeadlinesWidget takes; `until_s`: the last `heard_s` that counts.
    """

    def __init__(self, messages, until_s: float = math.inf):
        self._messages = [message for message in messages if message[1] <= until_s]
        self.now = 0.0
        self.stopped = 0

    def clock(self) -> float:
        return self.now

    def listen(self, server, watch):
        for topic, heard_s, message in self._messages:
            self.now = heard_s
            (watch.hear_status if topic == 'status' else watch.hear_stats)(message)
        return self._stop

    def _stop(self) -> None:
        self.stopped += 1
