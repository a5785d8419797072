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

"""Turns the tokens of the running request into text, and sends it to the node."""
from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

from timebill_ros.codes import Part
from timebill_ros.dispatch.channel import Channel
from timebill_ros.inference.chat_facts import NO_CHAT, ChatFacts
from timebill_ros.inference.control import Control
from timebill_ros.request import Request, to_dict
from timebill_ros.worker.written_parts import Pieces, WrittenParts

log = logging.getLogger(__name__)

STREAM_PERIOD_S = 0.01
SIGN_PERIOD_S = 0.5  # longest time for which the node is not told that prefill goes on


class Streamer:
    """Sends the new text of one request after another, in a thread of its own.

    The thread is started once, before the model is loaded. Where memory is short a thread cannot be started, and Python
    may then wait for it for good: no goal must depend on that.

    The thread reads a request's `control` only: the token loop never waits for it. So the node holds the text so far,
    whatever happens to this process.
    """

    def __init__(self, channel: Channel):
        self._channel = channel
        self._lock = threading.Lock()  # held while the thread works, so that nothing is sent once a request has ended
        self._runs = threading.Event()  # set while there is a request
        self._stream: _Stream | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, with the cores and the niceness of the one that calls. RuntimeError where that fails."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name='streamer', daemon=True)
            thread.start()
            self._thread = thread

    @contextlib.contextmanager
    def streaming(self, tokenizer, request: Request, control: Control, chat: ChatFacts = NO_CHAT) -> Iterator[None]:
        """Send what `request` has to tell while inside. What is still held back at the end comes with the outcome.

        This may be entered inside of itself, for a request to which another gives way.
        """
        stream = _Stream(self._channel, tokenizer, request, control, chat)
        with self._lock:
            outer, self._stream = self._stream, stream
        self._runs.set()
        try:
            yield
        finally:
            if outer is None:
                self._runs.clear()
            with self._lock:
                self._stream = outer

    def catch_up(self) -> None:
        """Send what is new now: nothing else comes of a request while others run."""
        with self._lock:
            if self._stream is not None:
                self._stream.advance()

    def _run(self) -> None:
        while True:
            try:
                self._runs.wait()
                with self._lock:
                    if self._stream is not None:
                        self._stream.advance()
            except Exception:  # the next request needs this thread too
                log.exception('streaming failed; the result of the goal will hold its text')
            time.sleep(STREAM_PERIOD_S)


class _Stream:
    """What is sent of one request: its new text, and each plan that was made again while decoding.

    While the request is read, this sends how often prefill has looked at `control`, where that has changed. The
    streamer's thread lives on when the computation hangs. So nothing is sent of its own accord, only what the
    computation has counted.
    """

    def __init__(self, channel: Channel, tokenizer, request: Request, control: Control, chat: ChatFacts):
        self._channel, self._request, self._control = channel, request, control
        self._parts = WrittenParts(tokenizer, request, control, chat)
        self._sent, self._revised = 0, None
        self._looks, self._signed_s = 0, time.monotonic()
        self._failed = False  # the text cannot be streamed any more

    def advance(self) -> None:
        """Send what is new."""
        control, name = self._control, self._request.request_id
        if control.looks != self._looks and time.monotonic() - self._signed_s >= SIGN_PERIOD_S:
            self._looks, self._signed_s = control.looks, time.monotonic()
            self._channel.send({'event': 'alive', 'id': name, 'looks': self._looks})
        if control.revised is not self._revised:
            self._revised = control.revised
            plan, timing = self._revised
            self._channel.send({'event': 'plan', 'id': name, 'plan': to_dict(plan), 'timing': to_dict(timing)})
        n = control.n_tokens
        if n != self._sent:
            self._sent = n
            for part, delta in self._pieces(n) or [(Part.TEXT, '')]:
                event = {'event': 'text', 'id': name, 'delta': delta, 'n': n}
                self._channel.send(event if part is Part.TEXT else {**event, 'part': part})

    def _pieces(self, n: int) -> Pieces:
        """Return the text that can be sent now that there are `n` tokens; nothing more once that has failed.

        The number of tokens is sent all the same: the node takes it for a sign of life.
        """
        if self._failed:
            return []
        try:
            return self._parts.advance(n)
        except Exception as error:  # memory is short, for instance; a piece may be lost, so the rest would not fit
            self._failed = True
            log.warning('the text of goal %s is not streamed any more, and its result will hold it (%s: %s)',
                        self._request.request_id, type(error).__name__, error)
            return []
