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

"""The `openai` package, unchanged, through `timebill serve` as a program, to a real node."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
from door_program import DoorProgram
from node_client import WAIT_S, wait_until
from node_process import NodeProcess, scripted
from scripted_model import ROOT

from timebill_ros.codes import ErrorCode

openai = pytest.importorskip('openai')

TOKEN = 'token-of-the-test-0123456789'
SCHEMA = {'type': 'object', 'properties': {'steps': {'type': 'array', 'items': {'type': 'string'}}},
          'required': ['steps'], 'additionalProperties': False}
# What plans count with is faster than what happens to "late", so it is promised and does not make it.
SCRIPT = '''
format: 1
times: {prompt_s: 0.0, prompt_token_s: 0.0, token_s: 0.01}
answers:
  - {when: '^one$', text: two three}
  - {when: '^late$', text: one two three four five six seven eight nine ten, token_s: 0.5}
  - {text: on and, ends: false}
'''
BUILD = 'import pathlib, sys; from byte_tokenizers import build; build(pathlib.Path(sys.argv[1]))'


def say(text: str, **fields) -> dict:
    return {'model': 'timebill', 'messages': [{'role': 'user', 'content': text}], **fields}


def client_of(door: DoorProgram, key: str = 'none', **options) -> openai.OpenAI:
    return openai.OpenAI(base_url=door.url, api_key=key, timeout=WAIT_S, **options)


@pytest.fixture(scope='module')
def node(tmp_path_factory):
    script = tmp_path_factory.mktemp('script') / 'script.yaml'
    script.write_text(SCRIPT)
    with NodeProcess(worker='scripted', script=str(script)) as node:
        yield node.start()


@pytest.fixture(scope='module')
def door(node):
    with DoorProgram(node.server, '--deadline', '40') as door:
        yield door


@pytest.fixture(scope='module')
def client(door):
    with client_of(door) as client:
        yield client


def test_chat(client):
    answer = client.chat.completions.create(**say('one'))
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ('two three', 'stop')
    assert answer.usage.completion_tokens == 3
    assert (answer.timebill['promise'], answer.timebill['deadline_ms']) == ('kept', 40000)
    assert answer.timebill['deadline_from'] == 'default'


def test_a_deadline_cuts_and_the_truth_is_beside_it(client):
    answer = client.chat.completions.create(**say('w1'), extra_body={'deadline_ms': 600})
    assert answer.choices[0].finish_reason == 'length' and answer.choices[0].message.content.startswith('on and')
    assert answer.timebill['finish_reason'] == 'DEADLINE' and answer.timebill['deadline_from'] == 'request'


def test_a_stream_with_its_usage(client):
    pieces = list(client.chat.completions.create(**say('one'), stream=True, stream_options={'include_usage': True}))
    assert ''.join(piece.choices[0].delta.content or '' for piece in pieces if piece.choices) == 'two three'
    assert pieces[0].timebill['verdict'] == 'FITS' and pieces[-1].usage.completion_tokens == 3
    assert pieces[-2].choices[0].finish_reason == 'stop'


def test_a_completion_and_the_models(client):
    assert client.completions.create(model='timebill', prompt='one').choices[0].text == 'two three'
    assert [model.id for model in client.models.list()] == ['timebill']


@pytest.mark.parametrize(('given', 'error', 'told'), [
    ({'extra_body': {'overrun_strategy': 'kill', 'deadline_ms': 1000}}, openai.InternalServerError, 'deadline'),
    ({'extra_body': {'deadline': 5}}, openai.BadRequestError, "unknown field 'deadline'"),
    ({'n': 2}, openai.BadRequestError, 'only 1 is served'),
    ({'temperature': -5.0}, openai.BadRequestError, 'temperature'),
        ({'top_p': 7.0}, openai.BadRequestError, 'top_p'),
    ({'response_format': {'type': 'json_object'}}, openai.BadRequestError, 'schema')])
def test_errors_are_those_of_the_package_with_the_nodes_sentence(client, given, error, told):
    began_s = time.monotonic()
    with pytest.raises(error, match=f'(?s).*{told}') as raised:
        client.chat.completions.create(**say('late'), **given)
    assert raised.value.body['message'] and time.monotonic() - began_s < WAIT_S / 2
    if raised.value.status_code == 504:
        assert raised.value.code == 'deadline_missed' and raised.value.body['timebill']['error'] == 'DEADLINE_MISSED'


def test_a_stream_whose_goal_is_killed_raises(client):
    with pytest.raises(openai.APIError) as raised:
        for _ in client.chat.completions.create(**say('late'), stream=True, extra_body={
                'overrun_strategy': 'kill', 'deadline_ms': 1500}):
            pass
    assert raised.value.code == 'deadline_missed'


def test_closing_the_connection_cancels_the_goal_within_a_step(node, client):
    stream = client.chat.completions.create(**say('w1', max_tokens=4000), stream=True)
    pieces = iter(stream)
    while not next(pieces).choices[0].delta.content:
        pass
    goal = node.statuses[-1].request_id
    closed_s = time.monotonic()
    stream.close()
    ended = wait_until(lambda: next((status for status in node.statuses if status.request_id == goal
                                     and status.error_code == ErrorCode.CANCELED), None))
    # 4,000 tokens take 40 s; a step takes 10 ms, and the rest is for a busy machine.
    assert time.monotonic() - closed_s < 5.0 and 0 < ended.generated_tokens < 3000


@pytest.mark.slow
def test_a_node_that_comes_later_is_found(tmp_path):
    with scripted(tmp_path) as node:
        wait_until(lambda: node.diagnostics)  # it is there, but not configured
        with DoorProgram(node.server) as door, client_of(door, max_retries=0) as client:
            with pytest.raises(openai.InternalServerError, match='is unconfigured: configure and') as raised:
                client.chat.completions.create(**say('one'))
            assert raised.value.status_code == 503
            assert httpx.get(door.url.replace('/v1', '/health'), timeout=WAIT_S).status_code == 503
            node.start()
            wait_until(lambda: httpx.get(door.url.replace('/v1', '/health'), timeout=WAIT_S).status_code == 200)
            assert client.chat.completions.create(**say('one')).choices[0].message.content == 'two three'
            node.deactivate()
            with pytest.raises(openai.InternalServerError, match='is inactive: activate it'):
                client.chat.completions.create(**say('one'))
            code, told = door.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and 'Until then, requests get the status 503' in told


@pytest.mark.slow
def test_ctrl_c_ends_the_door_and_its_goals(node, tmp_path):
    token = tmp_path / 'token'
    token.write_text(TOKEN)
    token.chmod(0o600)
    with DoorProgram(node.server, '--token-file', str(token)) as door:
        with client_of(door, 'wrong') as client, pytest.raises(openai.AuthenticationError, match='token'):
            client.models.list()
        with client_of(door, TOKEN, max_retries=0) as client:
            pieces = iter(client.chat.completions.create(**say('w1', max_tokens=4000), stream=True))
            while not next(pieces).choices[0].delta.content:
                pass
            door.process.send_signal(signal.SIGINT)
            with pytest.raises(openai.APIError, match='timebill serve was ended'):
                for _ in pieces:
                    pass
        door.process.wait(WAIT_S)
    assert door.process.returncode == 130 and 'Traceback' not in door.process.stderr.read()


@pytest.mark.slow
def test_json_of_a_schema(tmp_path):
    pytest.importorskip('llguidance')
    jsonschema = pytest.importorskip('jsonschema')
    path = os.pathsep.join([str(ROOT), str(ROOT / 'test')])
    subprocess.run([sys.executable, '-c', BUILD, str(tmp_path)], check=True, env={**os.environ, 'PYTHONPATH': path})
    with NodeProcess(model=str(tmp_path), profile='', max_context_tokens=512, keep_state=False) as node:
        node.start()
        with DoorProgram(node.server) as door, client_of(door) as client:
            form = {'type': 'json_schema', 'json_schema': {'name': 'plan', 'schema': SCHEMA, 'strict': True}}
            for stream in (False, True):
                answer = client.chat.completions.create(
                    **say('tea', max_tokens=100, temperature=1.5, seed=3), response_format=form, stream=stream,
                    extra_body={'on_cut': 'close'})
                if stream:
                    text = ''.join(piece.choices[0].delta.content or '' for piece in answer)
                else:
                    text = answer.choices[0].message.content
                    assert answer.choices[0].finish_reason in ('stop', 'length')
                jsonschema.validate(json.loads(text), SCHEMA)
            answer = client.chat.completions.create(**say('tea', max_tokens=60), extra_body={'on_cut': 'close'},
                                                    response_format={'type': 'json_object'})
            assert isinstance(json.loads(answer.choices[0].message.content), dict)
