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

"""One goal's call of the server over HTTP, with httpx; and the client that all calls share."""
from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from timebill_ros.dispatch.offboard.answer_stream import ABOUT_THE_REQUEST, AnswerStream, Declined, Nonsense
from timebill_ros.dispatch.offboard.question import question
from timebill_ros.request import Request

CONNECT_S = 5.0  # for finding the server and connecting to it
KEEP_S = 60.0  # an idle connection is kept for so long
TEXT_S = 0.05  # text goes to the node once in so long, its first piece at once
DRAIN_S = 0.5  # what comes behind the end of an answer is read for so long, so that the connection can be used again
LONGEST_KEY = 4096  # characters
LONGEST_ERROR = 300  # characters of what a server says of an error
KEY_BEGINS = 12  # characters of a key by which it is found in what a server says
SHORTEST_KEY = 8  # characters; a shorter word is no secret, and may be part of any sentence
# What the user can look at, by the HTTP status of an error.
HINTS = {401: 'the key is read from offboard_key_file', 403: 'the key is read from offboard_key_file',
         404: 'offboard_url mostly ends in /v1, and offboard_model is a name that the server knows'}


class NotAsked(Exception):
    """The server cannot be asked with these parameters; the sentence says why."""


class Refused(Exception):
    """The server has answered with an error."""

    def __init__(self, status: int, text: str):
        hint = HINTS.get(status, '')
        super().__init__(f'HTTP {status}: {text}{f" ({hint})" if hint else ""}')
        self.status = status


def read_key(file: str) -> str:
    """Return the key in a file, '' for no file. NotAsked for one that others may read, or that holds no key."""
    if not file:
        return ''
    try:
        with Path(file).expanduser().open('rb') as opened:
            if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                raise NotAsked(f'offboard_key_file {file} may be read or written by others: chmod 600 {file}')
            text = opened.read(LONGEST_KEY + 1).decode('ascii', errors='replace').strip()
    except OSError as error:
        raise NotAsked(f'offboard_key_file {file} cannot be read: {error.strerror}') from error
    if not 0 < len(text) <= LONGEST_KEY or any(not '!' <= character <= '~' for character in text):
        raise NotAsked(f'offboard_key_file {file} must hold one word of printable ASCII characters, at most '
                       f'{LONGEST_KEY} of them')
    return text


def client_for(url: str, key_file: str, goals: int):
    """Return the httpx client that asks the server at `url`, which opens no connection yet; NotAsked with a sentence.

    It follows no redirection and heeds no proxy of the environment: what a goal says goes to this address alone.
    """
    try:
        import httpx
    except ImportError as error:
        raise NotAsked('offboard_url needs the library httpx where worker_python is: pip install '
                       f'"timebill_ros[offboard]" or httpx ({error})') from error
    if set(url) & set('@?#'):  # before any message shows it
        raise NotAsked('offboard_url must hold no user and no password, nor a query, which logs would show: name '
                       'offboard_key_file')
    try:
        address = httpx.URL(url.rstrip('/') + '/')
        is_whole = bool(address.host) and ' ' not in url and (address.port or 1) < 1 << 16
    except (httpx.InvalidURL, ValueError) as error:  # that of a name in letters of the world
        raise NotAsked(f'offboard_url {url!r} is no address: {error}') from error
    if address.scheme not in ('http', 'https') or not is_whole:
        raise NotAsked(f'offboard_url {url!r} must be an address as http://192.168.1.20:8000/v1')
    key = read_key(key_file)
    headers = {'accept-encoding': 'identity', 'user-agent': 'timebill_ros',
               **({'authorization': f'Bearer {key}'} if key else {})}
    return httpx.AsyncClient(
        base_url=address, headers=headers, timeout=httpx.Timeout(None, connect=CONNECT_S), follow_redirects=False,
        trust_env=False, verify=ssl.create_default_context(),
        # No most: a connection that is still read to its end keeps no goal waiting. The node bounds the goals.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=goals, keepalive_expiry=KEEP_S))


class ServerCall:
    """Asks for one answer, and tells the node of it with `send(message)`: its text, and exactly one end.

    The ends are 'done', 'error' (with `fault`: whether it speaks against the server) and 'ended' (canceled, or out of
    time). Instants are monotonic, as in the node.
    """

    def __init__(self, client, model: str, request: Request, send: Callable[[dict], object]):
        self._client, self._model, self._request, self._send = client, model, request, send
        self._n, self._unsent, self._sent_s, self._first_s, self._last_s = 0, '', 0.0, 0.0, 0.0
        self._timer: asyncio.TimerHandle | None = None  # for text that has come soon after what was sent
        self._is_over = False

    async def run(self, until_s: float) -> None:
        """Ask, and read until the answer ends, or until the instant `until_s`."""
        try:
            await asyncio.wait_for(self._read(), max(0.0, until_s - time.monotonic()))
        except (asyncio.TimeoutError, asyncio.CancelledError):
            self._end('ended')
        except Refused as error:
            self._end('error', message=str(error), fault=error.status not in ABOUT_THE_REQUEST)
        except Declined as error:
            self._end('error', message=f'it has no text for this goal: {error}', fault=False)
        except Nonsense as error:
            self._end('error', message=f'it has sent what is no answer: {error}', fault=True)
        except Exception as error:  # of the network, or a bug of a library
            self._end('error', message=f'{type(error).__name__}: {error}', fault=True)

    def _end(self, event: str, **more) -> None:
        if 'message' in more:
            more['message'] = _without_key(more['message'], self._client.headers.get('authorization', ''))
        if event != 'done':  # what has come so far, a client may keep
            self._tell_rest()
        if event == 'ended' or not self._is_over:
            self._tell(event, **more)
        self._is_over = True

    def _tell_rest(self) -> None:
        """Send the text that has come since some was sent."""
        self._timer = None
        if self._unsent and not self._is_over:
            self._tell('text', delta=self._unsent, n=self._n, first_s=self._first_s, at_s=self._last_s)
            self._unsent, self._sent_s = '', self._last_s

    def _tell(self, event: str, **more) -> None:
        self._send({'event': event, 'id': self._request.request_id, **more})

    async def _read(self) -> None:
        """Ask. A connection that was kept, and that the server has closed, says nothing of the server: take another."""
        import httpx
        path, body = question(self._request, self._model)
        while True:
            is_answered, steps = False, []

            async def note(step: str, _, steps: list[str] = steps) -> None:
                steps.append(step)

            try:
                async with self._client.stream('POST', path, json=body, extensions={'trace': note}) as response:
                    is_answered = True
                    return await self._read_answer(response)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                if is_answered or 'connection.connect_tcp.started' in steps:
                    raise

    async def _read_answer(self, response) -> None:
        data = response.aiter_raw()
        if response.status_code != 200:
            raise Refused(response.status_code, await _beginning(data))
        _check_kind(response.headers)
        stream = AnswerStream(self._request.max_new_tokens)
        async for part in data:
            for piece in stream.feed(part):
                self._take(piece.text, piece.finish)
            if self._is_over:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(_drain(data), DRAIN_S)
                return
            if self._unsent and self._timer is None:  # nothing may follow it
                self._timer = asyncio.get_running_loop().call_later(TEXT_S, self._tell_rest)
        raise Nonsense('the connection ended in the middle of an answer')

    def _take(self, text: str, finish: str) -> None:
        """Account for one piece of an answer."""
        now = time.monotonic()
        self._first_s, self._last_s = self._first_s or now, now
        self._n += 1 if text or not finish else 0
        self._unsent += text
        if finish:
            self._end('done', delta=self._unsent, n=self._n, finish=finish, first_s=self._first_s, finished_s=now)
        elif now - self._sent_s >= TEXT_S:
            self._tell('text', delta=self._unsent, n=self._n, first_s=self._first_s, at_s=now)
            self._unsent, self._sent_s = '', now


def _without_key(text: str, authorization: str) -> str:
    """Return what a server says without the key that it was sent, which logs would show; it may be cut."""
    key = authorization.removeprefix('Bearer ')
    if len(key) < SHORTEST_KEY:
        return text
    found = re.search(re.escape(key[:KEY_BEGINS]), text, re.IGNORECASE)
    return f'{text[:found.start()]}(the key)' if found else text


def _check_kind(headers) -> None:
    kind = headers.get('content-type', '').partition(';')[0].strip().lower()
    if kind != 'text/event-stream':
        raise Nonsense(f'a content of type {kind[:60]!r}, where a stream of events was asked for')
    if headers.get('content-encoding', 'identity') != 'identity':
        raise Nonsense(f'an encoding that was not asked for: {headers["content-encoding"][:60]!r}')


async def _beginning(data: AsyncIterator[bytes]) -> str:
    """Return the beginning of a body in one line."""
    text = b''
    async for part in data:
        text += part
        if len(text) >= LONGEST_ERROR:
            break
    return ' '.join(text[:LONGEST_ERROR].decode(errors='replace').split())


async def _drain(data: AsyncIterator[bytes]) -> None:
    async for _ in data:
        pass
