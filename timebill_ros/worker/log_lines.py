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

"""The worker's log lines go to the node, which gives them to ROS: with a stamp, a level and a place in /rosout.

What libraries in C write themselves still goes to standard error, which worker and node share.
"""
from __future__ import annotations

import logging
import sys

from timebill_ros.dispatch.channel import Channel


class ToNode(logging.Handler):
    """Sends each record over the channel; once the node is gone, writes it to standard error."""

    def __init__(self, channel: Channel):
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if not self._channel.send({'event': 'log', 'level': record.levelno, 'text': text}):
            print(f'[{record.levelname}] [timebill worker]: {text}', file=sys.stderr, flush=True)


def send_to_node(channel: Channel, level: int) -> None:
    """Send what this package logs at `level` and above; of libraries, INFO and above at the most."""
    logging.basicConfig(level=max(level, logging.INFO), handlers=[ToNode(channel)], format='%(message)s',
                        force=True)
    logging.getLogger('timebill_ros').setLevel(level)


def take_transformers_along() -> None:
    """Have what transformers logs go where all else goes; it writes to standard error itself. This imports it."""
    from transformers.utils import logging as of_transformers
    of_transformers.disable_default_handler()
    of_transformers.enable_propagation()
