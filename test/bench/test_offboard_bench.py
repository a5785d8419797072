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

"""The bench of a server besides: the proxy's faults, the goals, the rows, and all of it as small as it gets."""
import asyncio
import io
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('httpx')
from faulty_server import ANSWER, WORDS, FaultyServer  # noqa: E402

from timebill_ros.bench import fault_proxy, llama_server  # noqa: E402
from timebill_ros.bench.fault_proxy import FAULTS, NONE, SLOW, FaultProxy  # noqa: E402
from timebill_ros.bench.offboard import FAULT_SHARE, SLOW_SHARE, goals  # noqa: E402
from timebill_ros.bench.offboard_rows import ALL, BOTH, ONBOARD, SERVER, WAYS, result_of  # noqa: E402
from timebill_ros.cli.main import main  # noqa: E402
from timebill_ros.dispatch.offboard.call import ServerCall, client_for  # noqa: E402
from timebill_ros.request import Request  # noqa: E402

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'


@pytest.fixture(scope='module')
def upstream():
    made = FaultyServer()
    yield made
    made.close()


def call(url, seconds):
    """Return what the process that calls the server would tell of one goal."""
    told, now = [], time.monotonic()

    async def run():
        client = client_for(url, '', 1)
        request = Request('goal', now, now + seconds, messages=[{'role': 'user', 'content': 'Where?'}])
        await ServerCall(client, 'large', request, told.append).run(now + seconds)
        await client.aclose()

    asyncio.run(run())
    return told[-1], ''.join(message.get('delta', '') for message in told), time.monotonic() - now


@pytest.mark.parametrize('fault', FAULTS)
def test_every_fault_is_what_it_is_called(upstream, monkeypatch, fault):
    monkeypatch.setattr(fault_proxy, 'SLOW_FIRST_S', 0.2)
    asked = len(upstream.questions)
    with FaultProxy(upstream.url, lambda question: fault) as proxy:
        end, text, took_s = call(proxy.url, 1.0 if fault in ('silent', 'stalls') else 20.0)
        assert proxy.faults == {fault: 1}
    if fault in (NONE, SLOW):
        assert (end['event'], text) == ('done', ANSWER)
        assert upstream.questions[-1][1]['messages'][0]['content'] == 'Where?'
        assert took_s >= 0.2 + 6 * 0.05 or fault == NONE
    else:
        assert end['event'] == ('ended' if fault in ('silent', 'stalls') else 'error')
        assert text != ANSWER and ANSWER.startswith(text)
        assert fault != 'cuts' or text == ''.join(WORDS[:3]), 'all that came before the cut'
    assert len(upstream.questions) - asked == (fault not in ('gone', 'silent', 'nonsense', 'busy'))


def test_a_server_that_is_not_there_is_a_connection_that_ends():
    with FaultProxy('http://127.0.0.1:9/v1', lambda question: NONE) as proxy:
        assert call(proxy.url, 10.0)[0]['event'] == 'error'
    with pytest.raises(ValueError, match='must be an address'):
        FaultProxy('https://server/v1', lambda question: NONE)


def test_goals_are_the_same_in_every_run():
    made = goals(['a', 'b', 'c'], 400, (1.0, 8.0), 1)
    assert made == goals(['a', 'b', 'c'], 400, (1.0, 8.0), 1) and made != goals(['a', 'b', 'c'], 400, (1.0, 8.0), 2)
    assert made[:50] == goals(['a', 'b', 'c'], 50, (1.0, 8.0), 1), 'a longer run goes on from a shorter one'
    assert [goal.task for goal in made[:4]] == ['a', 'b', 'c', 'a'] and {goal.ways[0] for goal in made} == set(WAYS)
    assert all(1.0 <= goal.budget_s <= 8.0 and sorted(goal.ways) == sorted(WAYS) for goal in made)
    counts = Counter(goal.fault for goal in made)
    assert set(counts) == set(FAULTS) and counts[SLOW] == pytest.approx(400 * SLOW_SHARE, abs=30)
    assert counts[NONE] == pytest.approx(400 * (1 - SLOW_SHARE - FAULT_SHARE), abs=40)


def piece(number, way, score, **changed):
    return {'number': number, 'way': way, 'fault': 'none', 'tier': 'OFFBOARD', 'asked': True, 'late': False,
            'lost': False, 'took_s': 1.0, 'budget_s': 2.0, 'score': score, **changed}


def found():
    return [piece(0, BOTH, 1.0), piece(0, ONBOARD, 0.5, tier='ONBOARD'), piece(0, SERVER, 1.0),
            piece(1, BOTH, 0.5, fault='gone', tier='ONBOARD', took_s=2.1),
            piece(1, ONBOARD, 0.5, fault='gone', tier='ONBOARD', late=True), piece(1, SERVER, 0.0, fault='gone'),
            piece(2, BOTH, 0.0)]


def test_rows_compare_the_same_goals():
    result = result_of(found())
    assert (result['n'], result['late'], result['lost'], result['late_at_client']) == (2, 1, 0, 1)
    assert result['latest_s'] == pytest.approx(0.1)
    every, gone, none = result['rows']
    assert [row['fault'] for row in result['rows']] == [ALL, 'gone', 'none'] and gone['n'] == none['n'] == 1
    assert (every['server'], every['on_board'], every['nobody'], every['asked']) == (1, 1, 0, 2)
    assert every['scores'][BOTH][0] == 0.75 and every['against'][ONBOARD][0] == 0.25
    assert gone['against'][SERVER][0] == 0.5 and none['against'][SERVER][0] == 0.0
    with pytest.raises(ValueError, match='no goal is answered'):
        result_of([piece(0, BOTH, 1.0)])


def test_the_section_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    import offboard_tables
    data = json.loads(json.dumps({
        'environment': {'device': 'a CPU', 'cores': 2, 'date': '2026-01-02T03'}, 'budgets_s': [1.0, 8.0],
        'speed': 0.0, 'tasks': 'tasks.jsonl', 'parameters': {'offboard_model': 'large', 'offboard_quality': 1.0},
        **result_of(found())}))
    text = offboard_tables.offboard(data)
    again = offboard_tables.offboard({**data, 'speed': 10.0})
    assert 'told again 10 times as fast); a CPU, 2 cores for the node' in again
    assert '2 goals from tasks.jsonl with budgets of 1 to 8 s, the default model on board, large on the server' in text
    assert 'cores for both' in text
    assert '1 were late and 0 lost (1 of the 4 answers of the node came to the client late, by 100 ms' in text
    assert '| all | 2 | 2 | 50 % | 50 % | 0 % | 0.750 | 0.500 | 0.500 | +0.250' in text


def test_what_cannot_be_asked_is_said_in_a_sentence(tmp_path, capsys, monkeypatch):
    assert main(['bench', 'offboard', '--server-url', 'http://127.0.0.1:9/v1']) == 1
    assert 'name a server: a file by --gguf, or --server-url and --server-model' in capsys.readouterr().err
    monkeypatch.setattr(llama_server, 'NEEDED', ('no_such_package',))
    assert main(['bench', 'offboard', '--gguf', str(tmp_path / 'no.gguf')]) == 1
    assert 'takes no_such_package, which are not installed' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, 'httpx', None)
    assert main(['bench', 'offboard', '--server-url', 'http://127.0.0.1:9/v1', '--server-model', 'large']) == 1
    assert 'has no httpx' in capsys.readouterr().err


def test_a_server_that_was_started_is_asked_without_a_proxy(tmp_path, monkeypatch):
    class Models(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    monkeypatch.setattr(llama_server, 'NEEDED', ())
    monkeypatch.setattr(llama_server, 'START_S', 10.0)
    monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / 'model.gguf').touch()
    server = llama_server.LlamaServer(tmp_path / 'model.gguf', threads=1, n_context=64)
    with HTTPServer(('127.0.0.1', 0), Models) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        server.url = f'http://127.0.0.1:{listening.server_port}/v1'
        server._process, server._log = SimpleNamespace(poll=lambda: None), io.BytesIO()
        server._wait()  # or it raises OSError
        listening.shutdown()


@pytest.mark.slow
def test_the_whole_bench(tmp_path, upstream):
    out = tmp_path / 'offboard.json'
    arguments = ['bench', 'offboard', '--model', 'embedded', '--limit', '4', '--server-url', upstream.url,
                 '--server-model', 'large', '--quality', '2', '--budgets', '2', '4', '--out', str(out), '--goals']
    assert main([*arguments, '2']) == 0
    assert main([*arguments, '4']) == 0, 'it goes on'
    result = json.loads(out.read_text())
    assert (result['n'], result['late'], result['lost']) == (4, 0, 0) and result['environment']['device']
    assert result['rows'][0]['server'] + result['rows'][0]['on_board'] == 4
    lines = [json.loads(line) for line in out.with_suffix('.answers.jsonl').read_text().splitlines()[1:]]
    assert main([*arguments, '3', '--server-speed', '4', '--out', str(tmp_path / 'again.json')]) == 0
    asked = len(upstream.questions)
    again = json.loads((tmp_path / 'again.json').read_text())
    assert (again['n'], again['lost'], again['speed']) == (3, 0, 4.0) and again['rows'][0]['server']
    assert main([*arguments, '4', '--server-speed', '4', '--out', str(tmp_path / 'again.json')]) == 0
    assert len(upstream.questions) == asked + 1, 'each task once, however often it is told again'
    assert len(lines) == 12 and all(line['text'] for line in lines if line['way'] == ONBOARD)
