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

"""The body of a request: JSON, of bounded size, that comes in bounded time."""
from __future__ import annotations

import asyncio
import json

from starlette.requests import ClientDisconnect, Request

from timebill_ros.door.refusal import Refusal

BODY_S = 10.0  # how long a body may take to come
AGAIN_S = 0.05  # how long work that is canceled may go on before it is canceled again
CLOSE = {'connection': 'close'}  # where the body was not read whole, the connection cannot be used again


class ClientGone(Exception):
    """The client has closed the connection: nobody is there to be told anything."""


async def read_json(request: Request, most_bytes: int):
    """Return what the body holds. Refusal, with a sentence, for what is no JSON, too large or too slow."""
    kind = request.headers.get('content-type', '').partition(';')[0].strip().lower()
    if kind != 'application/json':  # a web page of another origin may send other kinds without asking first
        raise Refusal(415, f'the header Content-Type must be application/json, got {kind!r:.80}', headers=CLOSE)
    coding = request.headers.get('content-encoding', 'identity').strip().lower()
    if coding != 'identity':
        raise Refusal(415, f'the header Content-Encoding must be left out, got {coding!r:.80}: send the JSON as it is',
                      headers=CLOSE)
    try:
        data = await asyncio.wait_for(_read(request, most_bytes), BODY_S)
    except asyncio.TimeoutError:
        raise Refusal(408, f'the body did not come within {BODY_S:.0f} s', headers=CLOSE) from None
    except ClientDisconnect:
        raise ClientGone from None
    try:
        return json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f'the body is no JSON: {error}', code='invalid_json') from None


async def _read(request: Request, most_bytes: int) -> bytes:
    told = request.headers.get('content-length', '')
    too_large = Refusal(413, f'the body is too large: at most {most_bytes} bytes are served', code='body_too_large',
                        headers=CLOSE)
    if told.isdecimal() and int(told) > most_bytes:
        raise too_large
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > most_bytes:
            raise too_large
        pieces.append(piece)
    return b''.join(pieces)


def _refuse(name: str) -> None:
    raise ValueError(f'{name} is no number of JSON')


async def until_closed(work, receive) -> None:
    """Do `work`, a coroutine. Where the client closes the connection first, cancel it and raise ClientGone."""
    doing, closed = asyncio.create_task(work), asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({doing, closed}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGone
        doing.result()
    finally:
        closed.cancel()
        while not doing.done():  # more than once: until Python 3.12, wait_for loses a cancel that comes with a result
            doing.cancel()
            await asyncio.wait({doing}, timeout=AGAIN_S)
        await asyncio.gather(doing, closed, return_exceptions=True)


async def _disconnected(receive) -> None:
    while (await receive())['type'] != 'http.disconnect':
        pass
