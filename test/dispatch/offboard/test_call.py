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

"""The client that asks the server: what it is made of, and what it refuses. test_main.py has it ask."""
import asyncio
import contextlib
import time

import pytest

pytest.importorskip('httpx')

from timebill_ros.dispatch.offboard.call import (  # noqa: E402
    LONGEST_KEY,
    NotAsked,
    Refused,
    ServerCall,
    client_for,
    read_key,
)
from timebill_ros.request import Request  # noqa: E402


@pytest.fixture
def key(tmp_path):
    def made(text, mode=0o600):
        file = tmp_path / 'key'
        file.write_bytes(text)
        file.chmod(mode)
        return str(file)
    return made


def test_a_key_is_one_word_and_no_file_is_no_key(key):
    assert read_key('') == '' and read_key(key(b' sk-1234 \n')) == 'sk-1234'


@pytest.mark.parametrize(('text', 'mode', 'why'), [
    (b'', 0o600, 'one word'), (b'two words', 0o600, 'one word'), ('schlüssel'.encode(), 0o600, 'one word'),
    (b'a' * (LONGEST_KEY + 1), 0o600, 'one word'), (b'sk-1234', 0o640, 'chmod 600'), (b'sk-1234', 0o604, 'chmod 600'),
])
def test_other_keys_are_refused_and_not_shown(key, text, mode, why):
    with pytest.raises(NotAsked, match=why) as refused:
        read_key(key(text, mode))
    assert 'sk-1234' not in str(refused.value)


@pytest.mark.parametrize('url', ['http://host:8000/v1', 'http://host:8000/v1/'])
def test_paths_are_below_the_address(url, monkeypatch):
    for name in ('HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY'):
        monkeypatch.setenv(name, 'http://proxy:3128')
    client = client_for(url, '', 4)
    assert str(client.build_request('POST', 'chat/completions').url) == 'http://host:8000/v1/chat/completions'
    assert 'authorization' not in client.headers and not client.follow_redirects and not client.trust_env


@pytest.mark.parametrize('url', ['', 'host', 'host:8000', 'ftp://host', 'http://', 'http://host:port/', 'http://u:p@host',
                                 'ftp://u:p@host', 'http://u:p@host:port/', 'http://host/v1?key=u:p', 'http://xn--/v1',
                                 'http://xn--a/v1', 'http://host:99999/v1', 'http://my host/v1', 'http://host /v1'])
def test_other_addresses_are_refused(url):
    with pytest.raises(NotAsked, match='offboard_url') as refused:
        client_for(url, '', 4)
    assert 'u:p' not in str(refused.value)


@pytest.mark.parametrize('end', ['ended', 'error'])
def test_what_has_come_is_told_before_an_end_that_is_none(end):
    """Text is sent on at intervals, and a client may keep what came since the last one."""
    told = []
    call = ServerCall(None, 'large', Request('goal', 0.0, 1.0, prompt='hi'), told.append)
    for piece in ('one ', 'two ', 'three'):
        call._take(piece, '')
    call._end(end)
    assert ''.join(message.get('delta', '') for message in told) == 'one two three'
    assert told[-1] == {'event': end, 'id': 'goal'} and told[-2]['n'] == 3


class Stalling:
    """Stands for httpx: sends three pieces at once, and then nothing."""

    status_code, headers = 200, {'content-type': 'text/event-stream'}

    @contextlib.asynccontextmanager
    async def stream(self, method, path, json, extensions):
        yield self

    async def aiter_raw(self):
        yield b''.join(b'data: {"choices": [{"text": "%s"}]}\n\n' % text for text in (b'one ', b'two ', b'three'))
        await asyncio.sleep(60.0)


def test_what_comes_soon_after_what_was_sent_is_told_though_the_server_stalls():
    async def run():
        told = []
        call = ServerCall(Stalling(), 'large', Request('goal', 0.0, 1.0, prompt='hi'), told.append)
        asking = asyncio.create_task(call.run(time.monotonic() + 60.0))
        until = time.monotonic() + 30.0
        while len(told) < 2 and time.monotonic() < until:
            await asyncio.sleep(0.01)
        texts = [(message['event'], message['delta'], message['n']) for message in told]
        asking.cancel()
        await asking
        return texts, told[2:]

    assert asyncio.run(run()) == ([('text', 'one ', 1), ('text', 'two three', 3)], [{'event': 'ended', 'id': 'goal'}])


def test_nothing_is_told_twice_where_an_answer_is_over():
    told = []
    call = ServerCall(None, 'large', Request('goal', 0.0, 1.0, prompt='hi'), told.append)
    for piece, finish in (('one ', ''), ('two', 'stop')):
        call._take(piece, finish)
    call._end('ended')
    assert [message['event'] for message in told] == ['text', 'done', 'ended']
    assert ''.join(message.get('delta', '') for message in told) == 'one two'


@pytest.mark.parametrize(('status', 'names'), [(401, 'offboard_key_file'), (403, 'offboard_key_file'), (404, '/v1')])
def test_what_the_user_can_mend_is_named(status, names):
    assert str(Refused(status, 'no')).startswith(f'HTTP {status}: no (') and names in str(Refused(status, 'no'))
    assert str(Refused(503, 'busy')) == 'HTTP 503: busy'


@pytest.mark.parametrize(('word', 'said', 'told'), [
    ('sk-proj-0123456789', 'no such key: sk-proj-0123456789', 'no such key: (the key)'),
    ('sk-proj-0123456789', 'x' * 50 + ' sk-proj-01234', 'x' * 50 + ' (the key)'),  # cut
    ('Sk-Proj-0123456789', 'İ: authorization: bearer sk-proj-0123456789', 'İ: authorization: bearer (the key)'),
    ('none', 'none here', 'none here'),  # no secret
])
def test_a_key_that_a_server_says_again_is_not_told(key, word, said, told):
    messages = []
    call = ServerCall(client_for('http://host/v1', key(word.encode()), 4), 'large',
                      Request('goal', 0.0, 1.0, prompt='hi'), messages.append)
    call._end('error', message=said, fault=True)
    assert messages[0]['message'] == told
