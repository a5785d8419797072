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

"""The example that asks a server beside the node. A door to another node stands for the server."""
import asyncio
import time
from types import SimpleNamespace

import pytest
from answering_node import AnsweringNode
from node_client import WAIT_S

openai = pytest.importorskip('openai')
pytest.importorskip('starlette')
pytest.importorskip('uvicorn')
from door_program import door_in_a_thread  # noqa: E402


@pytest.fixture(scope='module')
def far():
    """The URL of a server: a second node behind a door."""
    with AnsweringNode() as node, door_in_a_thread(node.server) as (url, client):
        client.wait_until_active(WAIT_S)
        yield url + '/v1'


def ask(load, client, url: str, word: str, budget_s: float) -> tuple[str, str]:
    async def run():
        async with openai.AsyncOpenAI(base_url=url, api_key='none', max_retries=0) as server:
            return await load('second_tier').ask(client, server, 'timebill', word, budget_s)

    return asyncio.run(run())


def test_the_servers_answer_is_taken_where_it_is_there(load, client, far):
    assert ask(load, client, far, 'say from afar', WAIT_S) == ('from afar end', 'server')


def test_where_there_is_no_server_the_answer_is_the_nodes_and_nothing_is_waited_for(load, client):
    began_s = time.monotonic()
    assert ask(load, client, 'http://127.0.0.1:9/v1', 'say from here', WAIT_S) == ('from here end', 'on board')
    assert time.monotonic() - began_s < WAIT_S / 2


@pytest.mark.parametrize('fault', ['slow', 'broken', 'cut'])
def test_a_server_that_fails_costs_no_deadline(load, client, fault):
    canceled = []

    async def create(**_):
        if fault == 'broken':
            raise openai.OpenAIError('of the test')
        if fault == 'cut':
            return SimpleNamespace(choices=[SimpleNamespace(finish_reason='length')])
        try:
            await asyncio.sleep(3600)
        finally:
            canceled.append(1)

    async def run():
        return await load('second_tier').ask(client, server, 'big', 'say from here', 3.0)

    server = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    assert asyncio.run(run()) == ('from here end', 'on board')
    assert canceled == ([1] if fault == 'slow' else [])
