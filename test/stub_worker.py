"""A worker without a model, for tests of the node alone: ready at once, and every request is answered with "two three".

Named as worker_python by node_process.worker_program.
"""
from __future__ import annotations

import socket
import sys
import time

from timebill_ros.dispatch.channel import Channel
from timebill_ros.request import FinishReason, Outcome, Timing, to_dict


def main() -> None:
    channel = Channel(socket.socket(fileno=int(sys.argv[2])))
    for message in channel.receive():
        if message['op'] == 'configure':
            channel.send({'event': 'ready', 'description': 'a stub', 'longest_pause_s': 0.0, 'tracked':
                          {'timing_factor': 1.0}, 'prefill': [[0, 0.0]]})
        elif message['op'] == 'run':
            outcome = Outcome(text='two three', finish_reason=FinishReason.EOS, timing=Timing(queue_s=0.0))
            channel.send({'event': 'done', 'id': message['request']['request_id'], 'outcome': to_dict(outcome),
                          'finished_s': time.monotonic()})


if __name__ == '__main__':
    main()
