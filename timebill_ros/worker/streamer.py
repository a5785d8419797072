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

"""Turns the tokens of a running request into text, and sends it to the node."""
from __future__ import annotations

import threading
import time

from timebill_ros.dispatch.channel import Channel
from timebill_ros.inference.control import Control
from timebill_ros.inference.text import TextStream
from timebill_ros.request import Request, to_dict

STREAM_PERIOD_S = 0.01
SIGN_PERIOD_S = 0.5  # longest time for which the node is not told that prefill goes on


class Streamer:
    """Sends the new text of one request every STREAM_PERIOD_S, and each plan that was made again while decoding.

    While the request is read, it sends how often prefill has looked at `control`, where that has changed. This thread
    lives on when the computation hangs. So it sends nothing of its own accord, only what the computation has counted.

    It works in a thread of its own, from construction to `close`, and reads `control` only: the token loop never waits
    for it. So the node holds the text so far, whatever happens to this process.
    """

    def __init__(self, channel: Channel, tokenizer, request: Request, control: Control):
        self._channel, self._request, self._control = channel, request, control
        self._stream = TextStream(tokenizer)
        # Text that was sent cannot be taken back. The last characters may be the beginning of a stop string, so as many
        # are held back as the longest one has, less 1.
        self._hold = max((len(s) for s in request.sampling.stop), default=1) - 1
        self._held = ''
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name='streamer', daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sent, revised, stop = 0, None, self._request.sampling.stop
        looks, signed_s = 0, time.monotonic()
        while not self._closed.wait(STREAM_PERIOD_S):
            if self._control.looks != looks and time.monotonic() - signed_s >= SIGN_PERIOD_S:
                looks, signed_s = self._control.looks, time.monotonic()
                self._channel.send({'event': 'alive', 'id': self._request.request_id, 'looks': looks})
            if self._control.revised is not revised:
                revised = self._control.revised
                plan, timing = revised
                self._channel.send({'event': 'plan', 'id': self._request.request_id, 'plan': to_dict(plan),
                                    'timing': to_dict(timing)})
            n = self._control.n_tokens
            if n == sent:
                continue
            sent = n
            self._held += self._stream.advance(self._control.tokens, n)
            # The loop counts a token before it looks for stop strings in it, so a whole one may be here.
            cut = min([len(self._held) - self._hold, *(self._held.find(s) for s in stop if s in self._held)])
            delta, self._held = self._held[:max(cut, 0)], self._held[max(cut, 0):]
            self._channel.send({'event': 'text', 'id': self._request.request_id, 'delta': delta, 'n': n})

    def close(self) -> None:
        """Stop; nothing is sent after this returns. What is still held back comes with the outcome."""
        self._closed.set()
        self._thread.join()
