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

"""A worker without a model, for tests of the node alone.

It is ready at once and answers every request with "two three". node_process.worker_program makes a worker_python that
runs it.
"""
from __future__ import annotations

import socket
import sys
import time

from timebill_ros.codes import FinishReason
from timebill_ros.dispatch.channel import Channel
from timebill_ros.request import Outcome, Timing, to_dict


def main() -> None:
    channel = Channel(socket.socket(fileno=int(sys.argv[2])))
    for message in channel.receive():
        if message['op'] == 'configure':
            channel.send({'event': 'ready', 'description': 'a stub', 'device': 'Abacus', 'longest_pause_s': 0.0,
                          'one_time_s': 0.0, 'prefill': [[0, 0.0]],
                          'tracked': {'timing_factor': 1.0, 'unusual': False}})
        elif message['op'] == 'ping':
            channel.send({'event': 'pong'})
        elif message['op'] == 'run':
            outcome = Outcome(text='two three', finish_reason=FinishReason.EOS, timing=Timing(queue_s=0.0))
            channel.send({'event': 'done', 'id': message['request']['request_id'], 'outcome': to_dict(outcome),
                          'finished_s': time.monotonic()})


if __name__ == '__main__':
    main()
