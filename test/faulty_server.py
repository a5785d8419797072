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

"""A server of OpenAI's API over real sockets that has every fault a network and a server can have."""
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ('The ', 'ro', 'bot ', 'is ', 'at the ', 'dock ', '🤖.')
ANSWER = ''.join(WORDS)


class FaultyServer:
    """Answers every goal with ANSWER, as its `fault` says, until `close`.

    fault:  a name of FAULTS; a goal whose prompt or last message holds one in brackets gets that one instead
    after_s, per_s:  the time to the first piece, and between two pieces
    """

    def __init__(self, fault='none', *, after_s=0.0, per_s=0.0):
        self.fault, self.after_s, self.per_s = fault, after_s, per_s
        self.n_connections = 0
        self.questions, self.headers = [], []
        self._closing = threading.Event()

        class Handler(_Handler):
            served = self

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *arguments: None  # connections are dropped on purpose
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f'http://127.0.0.1:{self._server.server_port}/v1'

    def wait(self, seconds):
        """Wait, or less where the server is closed meanwhile."""
        self._closing.wait(seconds)

    def close(self):
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True
    served: FaultyServer

    def setup(self):
        self.served.n_connections += 1
        super().setup()

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        server = self.served
        body = json.loads(self.rfile.read(int(self.headers['content-length'])))
        server.questions.append((self.path, body))
        server.headers.append(dict(self.headers))
        self.key = 'delta' if 'messages' in body else 'text'
        try:
            text = body['messages'][-1]['content'] if 'messages' in body else body['prompt']
            named = re.search(r'\[(.+?)\]', text)
            FAULTS[named[1] if named else server.fault](self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # What handlers are made of.

    def begin(self, kind='text/event-stream', status=200):
        self.served.wait(self.served.after_s)
        self.send_response(status)
        self.send_header('content-type', kind)
        self.send_header('transfer-encoding', 'chunked')
        self.end_headers()

    def chunk(self, data: bytes):
        self.wfile.write(b'%x\r\n%s\r\n' % (len(data), data))

    def event(self, text=None, finish=None):
        choice = {'index': 0, 'finish_reason': finish}
        choice[self.key] = {'content': text} if self.key == 'delta' else text or ''
        self.chunk(b'data: %s\n\n' % json.dumps({'choices': [choice]}, ensure_ascii=False).encode())

    def pieces(self, words=WORDS):
        for number, word in enumerate(words):
            if number:
                self.served.wait(self.served.per_s)
            self.event(word)

    def complete(self, reason='stop'):
        self.event(None, reason)
        self.chunk(b'data: [DONE]\n\n')
        self.chunk(b'')

    def cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def answers(handler):
    handler.begin()
    handler.pieces()
    handler.complete()


def stalls_after_the_first_token(handler):
    handler.begin()
    handler.event(WORDS[0])
    handler.served.wait(30.0)
    handler.cut()


def says_nothing(handler):
    handler.served.wait(30.0)
    handler.cut()


def cuts(handler):
    handler.begin()
    handler.pieces(WORDS[:3])
    handler.cut()


def sends_half_a_character(handler):
    handler.begin()
    handler.pieces(WORDS[:3])
    handler.chunk('data: {"choices": [{"delta": {"content": "🤖'.encode()[:-2])
    handler.cut()


def sends_a_half_in_json(handler):
    handler.begin()
    handler.pieces(WORDS[:3])
    handler.chunk(b'data: {"choices": [{"%s": %s, "finish_reason": null}]}\n\n' % (
        handler.key.encode(), b'{"content": "\\ud83e"}' if handler.key == 'delta' else b'"\\ud83e"'))
    handler.complete()


def talks_nonsense(handler):
    handler.begin()
    for _ in range(3):
        handler.chunk(b'data: {"colour": [1, 2, 3]}\n\n')
    handler.complete()


def shows_a_page(handler):
    handler.begin('text/html')
    handler.chunk(b'<html>Sign in to the hotel network</html>')
    handler.chunk(b'')


def is_busy(handler):
    handler.begin('application/json', 503)
    handler.chunk(b'{"error": {"message": "no capacity"}}')
    handler.chunk(b'')


def does_not_take_it(handler):
    handler.begin('application/json', 400)
    handler.chunk(b'{"error": {"message": "too long"}}')
    handler.chunk(b'')


def never_ends(handler):
    handler.begin()
    until = time.monotonic() + 30.0
    while time.monotonic() < until and not handler.served._closing.is_set():
        handler.event('and so on ' * 100)


def sends_elsewhere(handler):
    handler.send_response(307)
    handler.send_header('location', handler.served.url + '/elsewhere')
    handler.send_header('content-length', '0')
    handler.end_headers()


FAULTS = {'none': answers, 'stalls': stalls_after_the_first_token, 'silent': says_nothing, 'cuts': cuts,
          'half a character': sends_half_a_character, 'half in JSON': sends_a_half_in_json,
          'nonsense': talks_nonsense, 'a page': shows_a_page, 'busy': is_busy, 'refuses': does_not_take_it,
          'endless': never_ends, 'elsewhere': sends_elsewhere}
