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

"""Who may come in: the address to listen on, the token, and what a web page must not get through a user's browser."""
from __future__ import annotations

import hmac
import ipaddress
import os
import re
import stat
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from timebill_ros.door.refusal import DENIED, Refusal

SHORTEST_TOKEN, LONGEST_TOKEN = 16, 4096  # characters
HEADER_BYTES = 16 * 1024  # names and values of a request's headers together
OPEN = '/health'  # needs no token: what starts and watches programs asks for it


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine can reach `host`; a name other than localhost counts as no."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def check_address(host: str, token: str) -> None:
    """Raise ValueError unless the door may be opened at `host`."""
    if not token and not is_loopback(host):
        raise ValueError(f'--host {host} can be reached from other machines: give --token-file FILE with a token that '
                         'clients must send, or listen on 127.0.0.1')


def read_token(file: str) -> str:
    """Return the token in `file`. ValueError for one that is too short or that other users may read."""
    path = Path(file).expanduser()
    try:
        opened = path.open('rb')
    except OSError as error:
        raise ValueError(f'--token-file {file} cannot be read: {error.strerror}') from None
    with opened:
        if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
            raise ValueError(f'--token-file {file} may be read or written by others: chmod 600 {file}')
        text = opened.read(LONGEST_TOKEN + 1).decode('ascii', errors='replace').strip()
    if not re.fullmatch(rf'[!-~]{{{SHORTEST_TOKEN},{LONGEST_TOKEN}}}', text):
        raise ValueError(f'--token-file {file} must hold one word of {SHORTEST_TOKEN} to {LONGEST_TOKEN} printable '
                         'ASCII characters, for instance from "openssl rand -hex 32"')
    return text


class Gate:
    """An ASGI application around another: who may not come in gets an error, and never reaches it.

    Without a token only names of this machine are served in the header Host. A browser that a web page has led here by
    a name of its own (DNS rebinding) sends that name, so such a page cannot reach the door.
    """

    def __init__(self, app, *, token: str = '', host: str = '127.0.0.1'):
        self._app, self._token = app, token.encode()
        self._names = {'localhost', '127.0.0.1', '::1', host.lower()}

    async def __call__(self, scope, receive, send) -> None:
        if scope['type'] == 'http':
            try:
                self._check(scope)
            except Refusal as refusal:
                # The body was not read, so the connection cannot be used again.
                headers = {**refusal.headers, 'connection': 'close'}
                await JSONResponse(refusal.body(), refusal.status, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope) -> None:
        size = sum(len(name) + len(value) for name, value in scope['headers'])
        if size > HEADER_BYTES:
            raise Refusal(431, f'the headers have {size} bytes: at most {HEADER_BYTES} are served')
        headers = Headers(scope=scope)
        if not self._token:
            name = _name_of(headers.get('host', ''))
            if name not in self._names:
                raise Refusal(403, f'the header Host names {name!r:.80}: without a token only names of this machine '
                              'are served', kind=DENIED, code='host_not_allowed')
        elif scope['path'] != OPEN:
            scheme, _, given = headers.get('authorization', '').partition(' ')
            if scheme.lower() != 'bearer' or not hmac.compare_digest(given.strip().encode(), self._token):
                raise Refusal(401, 'the token is missing or wrong: send "Authorization: Bearer <token>", the api_key '
                              "of OpenAI's clients", kind=DENIED, code='invalid_api_key',
                              headers={'www-authenticate': 'Bearer'})


def _name_of(host: str) -> str:
    """Return the name or address in a header Host, without its port."""
    host = host.lower()
    return host[1:].partition(']')[0] if host.startswith('[') else host.partition(':')[0]
