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

"""Streams of a server that are told again: what was said, in its time, and only what was asked."""
import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip('httpx')
from faulty_server import ANSWER, FaultyServer  # noqa: E402

from timebill_ros.bench.fault_proxy import NONE, FaultProxy  # noqa: E402
from timebill_ros.bench.recorded_streams import RecordedStreams  # noqa: E402
from timebill_ros.dispatch.offboard.call import ServerCall, client_for  # noqa: E402
from timebill_ros.dispatch.offboard.question import question  # noqa: E402
from timebill_ros.request import Request  # noqa: E402
from timebill_ros.training.journal import Journal  # noqa: E402


def goal(text='Where?'):
    now = time.monotonic()
    return Request('goal', now, now + 20.0, messages=[{'role': 'user', 'content': text}])


def call(url, request):
    """Return how the call of a server ended, and its text."""
    told = []

    async def run():
        client = client_for(url, '', 1)
        await ServerCall(client, 'large', request, told.append).run(request.deadline_s)
        await client.aclose()

    asyncio.run(run())
    return told[-1], ''.join(message.get('delta', '') for message in told)


def streams(folder, speed=10.0):
    return RecordedStreams(Journal(folder / 'streams.jsonl', {'model': 'large'}), speed)


def test_an_answer_is_told_again_without_its_server(tmp_path):
    upstream, recorded = FaultyServer(), streams(tmp_path)
    path, body = question(goal(), 'large')
    assert body not in recorded
    recorded.record(upstream.url, path, body)
    upstream.close()
    again = streams(tmp_path)  # from its file
    assert body in again
    with FaultProxy('http://127.0.0.1:9/v1', lambda asked: NONE, again) as proxy:
        end, text = call(proxy.url, goal())
        assert (end['event'], text, again.unknown) == ('done', ANSWER, 0)
        end, text = call(proxy.url, goal('Who?'))
        assert (end['event'], text, again.unknown) == ('error', '', 1) and '404' in end['message']


def test_lines_come_when_they_are_due(tmp_path):
    journal = Journal(tmp_path / 'streams.jsonl', {})
    journal.add({'question': {'a': 1}, 'lines': [(3600.0, 'one'), (7200.0, 'two'), (7200.0, 'three')]})
    waited = []

    def wait(seconds):
        waited.append(seconds)
        return len(waited) == 3

    assert list(RecordedStreams(journal, 2.0).lines({'a': 1}, wait)) == [b'one', b'two'], 'it ends where it is told to'
    assert waited == pytest.approx([1800.0, 3600.0, 3600.0], abs=60.0), 'twice as fast, from the question on'
    assert list(RecordedStreams(journal, 1e12).lines({'a': 1}, lambda seconds: seconds > 0.5))[-1] == b'three'


@pytest.mark.parametrize('status, said', [(500, b'data: [DONE]\n\n'), (200, b'data: {"choices": []}\n\n')])
def test_what_is_no_whole_answer_is_not_kept(tmp_path, status, said):
    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers['content-length']))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *arguments):
            pass

    recorded = streams(tmp_path)
    path, body = question(goal(), 'large')
    with HTTPServer(('127.0.0.1', 0), Server) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        with pytest.raises(OSError, match=f'has not answered to the end: HTTP {status}'):
            recorded.record(f'http://127.0.0.1:{listening.server_port}/v1', path, body)
        listening.shutdown()
    assert body not in recorded and not recorded._journal.entries
