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

"""Bodies of requests: JSON alone, of bounded size and time; and work that ends with its connection."""
import asyncio
import contextlib
import json

import pytest
from starlette.requests import Request

from timebill_ros.door import body
from timebill_ros.door.body import ClientGone, read_json, until_closed
from timebill_ros.door.refusal import Refusal


def read(*pieces: bytes, kind: str = 'application/json', most: int = 100, length: int | None = None, ends: bool = True):
    """Read a body that comes in pieces; without an end where not `ends`."""
    headers = [(b'content-type', kind.encode())] + ([(b'content-length', b'%d' % length)] if length is not None else [])
    messages = [{'type': 'http.request', 'body': piece, 'more_body': not ends or index < len(pieces) - 1}
                for index, piece in enumerate(pieces)]

    async def receive():
        if messages:
            return messages.pop(0)
        await asyncio.sleep(3600)

    return asyncio.run(read_json(Request({'type': 'http', 'method': 'POST', 'headers': headers}, receive), most))


def test_json_in_pieces():
    assert read(b'{"a": ', b'[1, "\xc3\xa4"]}', kind='application/json; charset=utf-8') == {'a': [1, 'ä']}


@pytest.mark.parametrize(('pieces', 'given', 'status', 'told'), [
    ([b'{}'], {'kind': 'text/plain'}, 415, "got 'text/plain'"), ([b'{}'], {'kind': ''}, 415, 'application/json'),
    ([b'{}'], {'length': 101}, 413, 'at most 100 bytes'), ([b'[' * 60, b']' * 60], {}, 413, 'too large'),
    ([b'{"a": }'], {}, 400, 'no JSON'), ([b''], {}, 400, 'no JSON'), ([b'"\xff"'], {}, 400, 'no JSON'),
    ([b'[NaN]'], {}, 400, 'NaN is no number'), ([b'[-Infinity]'], {}, 400, 'Infinity'),
    ([b'[' * 100000], {'most': 200000}, 400, 'no JSON'), ([b'9' * 10000], {'most': 20000}, 400, 'no JSON')])
def test_what_is_refused(pieces, given, status, told):
    with pytest.raises(Refusal) as error:
        read(*pieces, **given)
    assert error.value.status == status and told in str(error.value)
    if status in (413, 415):
        assert error.value.headers['connection'] == 'close', 'the rest of the body is still to come'


def test_a_body_that_is_packed_is_refused_by_that_name():
    headers = [(b'content-type', b'application/json'), (b'content-encoding', b'gzip')]
    with pytest.raises(Refusal, match='Content-Encoding must be left out, got .gzip.') as error:
        asyncio.run(read_json(Request({'type': 'http', 'method': 'POST', 'headers': headers}), 100))
    assert error.value.status == 415 and error.value.headers['connection'] == 'close'


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(body, 'BODY_S', 0.05)
    with pytest.raises(Refusal) as error:
        read(b'{', ends=False)
    assert error.value.status == 408


def test_work_is_done_while_the_connection_is_open():
    async def run():
        done = []

        async def work():
            await asyncio.sleep(0.01)
            done.append(1)

        await until_closed(work(), asyncio.Event().wait)
        return done

    assert asyncio.run(run()) == [1]


def test_work_ends_with_its_connection():
    async def run():
        ended = []

        async def work():
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(1)

        async def receive():
            await asyncio.sleep(0.01)
            return {'type': 'http.disconnect'}

        with pytest.raises(ClientGone):
            await until_closed(work(), receive)
        return ended

    assert asyncio.run(run()) == [1]


def test_work_that_loses_a_cancel_ends_with_its_connection_too():
    async def work():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    async def run():
        with pytest.raises(ClientGone):
            await until_closed(work(), receive)

    async def receive():
        await asyncio.sleep(0.01)
        return {'type': 'http.disconnect'}

    asyncio.run(asyncio.wait_for(run(), 10.0))


def test_an_error_of_the_work_is_passed_on():
    async def work():
        raise Refusal(400, json.dumps('no'))

    async def run():
        await until_closed(work(), asyncio.Event().wait)

    with pytest.raises(Refusal, match='no'):
        asyncio.run(run())
