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

"""What a real server has streamed, told again at another speed: a server on another machine, on the machine of a bench.

A server that shares its cores with the node slows the node down, and is itself slower than any that a robot would ask.
Here it answers every question once, alone and unhurried. Afterwards its streams are told again, line by line, so many
times as fast as it was.
"""
from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from timebill_ros.training.journal import Journal

UNHURRIED_S = 600.0  # for the longest pause of a server that is recorded
END = 'data: [DONE]'


class RecordedStreams:
    """The streams of one server by question, kept in `journal`, and told again at `speed` times its own.

    `unknown` counts questions that were asked and are not recorded.
    """

    def __init__(self, journal: Journal, speed: float):
        self._journal, self._speed, self.unknown = journal, speed, 0
        self._lines = {_key(entry['question']): entry['lines'] for entry in journal.entries}

    def __contains__(self, question: dict) -> bool:
        return _key(question) in self._lines

    def record(self, url: str, path: str, question: dict) -> None:
        """Ask the server at `url` and keep what it streams. OSError where it does not answer, or not to the end."""
        server, asked_s, lines = urlsplit(url), time.monotonic(), []
        connection = http.client.HTTPConnection(server.hostname, server.port, timeout=UNHURRIED_S)
        try:
            connection.request('POST', f'{server.path}/{path}', json.dumps(question), {
                'content-type': 'application/json'})
            response = connection.getresponse()
            while line := response.readline():
                lines.append((time.monotonic() - asked_s, line.decode()))
        except http.client.HTTPException as error:
            raise OSError(f'the server at {url} has not answered to the end: {error!r}') from error
        finally:
            connection.close()
        if response.status != 200 or not any(line.strip() == END for _, line in lines):
            said = ''.join(line for _, line in lines)[-300:]
            raise OSError(f'the server at {url} has not answered to the end: HTTP {response.status}, {said!r}')
        self._journal.add({'question': question, 'lines': lines})
        self._lines[_key(question)] = lines

    def lines(self, question: dict, wait: Callable[[float], bool]) -> Iterator[bytes]:
        """Yield the stream's lines when they are due. `wait(s)` waits, and says True where it shall end."""
        asked_s = time.monotonic()
        for at_s, line in self._lines[_key(question)]:
            if wait(max(0.0, asked_s + at_s / self._speed - time.monotonic())):
                return
            yield line.encode()


def _key(question: dict) -> str:
    return json.dumps(question, sort_keys=True)
