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

"""Who may come in: addresses, token files, tokens, names in the header Host, sizes of headers."""
import asyncio
import json

import httpx
import pytest

from timebill_ros.door.app import Door, make_app
from timebill_ros.door.gate import Gate, check_address, is_loopback, read_token

TOKEN = 'a' * 32


@pytest.mark.parametrize(('host', 'inside'), [
    ('127.0.0.1', True), ('127.3.2.1', True), ('::1', True), ('localhost', True), ('0.0.0.0', False), ('::', False),
    ('192.168.1.5', False), ('robot', False), ('', False)])
def test_only_addresses_of_this_machine_need_no_token(host, inside):
    assert is_loopback(host) is inside
    check_address(host, TOKEN)
    if inside:
        check_address(host, '')
    else:
        with pytest.raises(ValueError, match='give --token-file'):
            check_address(host, '')


def write(tmp_path, text: str, mode: int = 0o600) -> str:
    file = tmp_path / 'token'
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def test_a_token_is_read_without_the_space_around_it(tmp_path):
    assert read_token(write(tmp_path, f' {TOKEN}\n')) == TOKEN


@pytest.mark.parametrize('text', ['', 'short', 'a' * 15, 'a b' * 9, 'ä' * 20, 'a' * 5000, f'{TOKEN}\n{TOKEN}'])
def test_what_is_no_token_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match='must hold one word'):
        read_token(write(tmp_path, text))


@pytest.mark.parametrize('mode', [0o644, 0o640, 0o604, 0o620])
def test_a_token_that_others_may_read_is_refused(tmp_path, mode):
    with pytest.raises(ValueError, match='chmod 600'):
        read_token(write(tmp_path, TOKEN, mode))


def ask(gate: Gate, path: str = '/v1/models', **headers) -> httpx.Response:
    async def request():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url='http://localhost:8000') as client:
            return await client.get(path, headers=headers)

    return asyncio.run(request())


async def inside(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': b'in'})


@pytest.mark.parametrize(('given', 'status'), [
    (None, 401), ('Bearer ' + TOKEN, 200), ('bearer ' + TOKEN, 200), ('Bearer ' + TOKEN[1:], 401), (TOKEN, 401),
    ('Basic ' + TOKEN, 401), ('Bearer', 401), ('Bearer ' + TOKEN + 'a', 401)])
def test_a_token_opens(given, status):
    answer = ask(Gate(inside, token=TOKEN), **({'authorization': given} if given else {}))
    assert answer.status_code == status
    if status == 401:
        assert json.loads(answer.text)['error']['code'] == 'invalid_api_key' and TOKEN not in answer.text
        assert answer.headers['www-authenticate'] == 'Bearer' and answer.headers['connection'] == 'close'


def test_health_needs_no_token():
    assert ask(Gate(inside, token=TOKEN), '/health').status_code == 200


@pytest.mark.parametrize(('host', 'status'), [
    ('localhost:8000', 200), ('127.0.0.1', 200), ('[::1]:8000', 200), ('LOCALHOST', 200), ('evil.example', 403),
    ('localhost.evil.example:8000', 403), ('', 403)])
def test_without_a_token_a_web_page_cannot_come_in_by_a_name_of_its_own(host, status):
    assert ask(Gate(inside), host=host).status_code == status


def test_a_path_that_is_not_served_is_told_whatever_the_header_host_says():
    app = make_app(None, Door(token=TOKEN))
    assert ask(app, '/nothing', host='[', authorization=f'Bearer {TOKEN}').status_code == 404


def test_headers_are_bounded():
    assert ask(Gate(inside), a='b' * 15000).status_code == 200
    assert ask(Gate(inside), a='b' * 16000, b='c' * 1000).status_code == 431
