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

"""A server that others use, `transformers serve`, behind a proxy with faults: every goal is answered once and in time.

The model is a real one where TIMEBILL_REAL_MODEL names it or the user's cache has one, else one with random weights.
"""
import collections
import itertools
import os
import pwd
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

for package in ('httpx', 'accelerate', 'fastapi', 'uvicorn', 'openai', 'pydantic', 'rich', 'typer'):
    pytest.importorskip(package, reason=f'"transformers serve" takes {package}, which is not installed')
import tiny_models  # noqa: E402
from two_tiers import ON_BOARD, WAIT_S, TwoTiers  # noqa: E402

from timebill_ros.bench.fault_proxy import FAULTS, NONE, SLOW, FaultProxy  # noqa: E402
from timebill_ros.codes import ErrorCode, Tier  # noqa: E402

pytestmark = pytest.mark.slow
GOALS = 48  # each fault meets three of them, with a goal without between two
BUDGET_S, MARGIN_S = 6.0, 1.5  # other programs may be busy
TOKENS = 6


def model_directory() -> Path:
    """Return a chat model: a real one where there is one."""
    if named := os.environ.get('TIMEBILL_REAL_MODEL'):
        return Path(named)
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)  # HOME is another one in tests
    found = sorted((home / '.cache' / 'timebill_ros' / 'models').glob('*/chat_template.jinja'))
    return found[0].parent if found else tiny_models.directory('qwen2')


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """The address of `transformers serve`, once it has loaded the model."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp('serve') / 'log').open('w+')
    process = subprocess.Popen(
        [sys.executable, '-m', 'transformers.cli.transformers', 'serve', '--host', '127.0.0.1', '--port', str(port),
         '--device', 'cpu', '--dtype', 'float32', '--force-model', str(model_directory())],
        stdout=log, stderr=subprocess.STDOUT, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    try:
        until = time.monotonic() + 3 * WAIT_S
        while True:
            assert process.poll() is None and time.monotonic() < until, Path(log.name).read_text()[-3000:]
            try:
                urllib.request.urlopen(f'http://127.0.0.1:{port}/health', timeout=5.0).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f'http://127.0.0.1:{port}/v1'
    finally:
        process.terminate()
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:  # nobody else would end it
            process.kill()
            process.wait()
        log.close()


def ask(tiers, text, budget_s=BUDGET_S):
    return tiers.ask('', budget_s, messages=[{'role': 'user', 'content': text}], max_new_tokens=TOKENS,
                     delivery_margin_s=MARGIN_S)


def test_each_goal_is_answered_once_and_in_time_whatever_the_network_does(served, tmp_path):
    turns = itertools.cycle(name for other in FAULTS if other != NONE for name in (NONE, other))
    fault = [NONE]
    with FaultProxy(served, lambda question: fault[0]) as proxy:
        tiers = TwoTiers(tmp_path, proxy.url, offboard_model='served')
        try:
            first = ask(tiers, 'w9 w10 hello', WAIT_S)  # the server loads its model
            assert first.ended.wait(WAIT_S) and first.timing.tier is Tier.OFFBOARD, first.outcome
            shares: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
            for number in range(GOALS):
                fault[0] = next(turns)
                job = ask(tiers, f'w9 w10 Where is the robot w{6 + number}?')
                assert job.ended.wait(WAIT_S) and tiers.ends[job.request.request_id] == 1
                assert job.outcome.error_code is ErrorCode.NONE, job.outcome
                assert job.timing.tardiness_s == 0.0 and job.timing.response_time_s <= BUDGET_S
                assert ON_BOARD.startswith(job.outcome.text) == (job.timing.tier is Tier.ONBOARD)
                shares[fault[0]][job.timing.tier] += 1
            assert not tiers.dispatcher.tier.running
        finally:
            tiers.dispatcher.close()
    total = sum(shares.values(), collections.Counter())
    print(f'{GOALS} goals: {total[Tier.OFFBOARD]} answered by the server, {total[Tier.ONBOARD]} on board, 0 late; '
          f'{ {name: dict(count) for name, count in shares.items()} }')
    assert total[Tier.OFFBOARD] + total[Tier.ONBOARD] == GOALS
    assert all(shares[name][Tier.OFFBOARD] == 0 for name in FAULTS if name not in (NONE, SLOW))
    assert shares[NONE][Tier.OFFBOARD] >= GOALS / 2 - 6
