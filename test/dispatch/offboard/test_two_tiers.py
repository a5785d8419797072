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

"""Both tiers as they are: a dispatcher, the scripted worker, the process that calls a server, and a server with faults.

Every goal is answered once and in time, by one of the two, and never with a text that is made of both.
"""
import collections
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip('httpx')
from faulty_server import ANSWER, FAULTS, FaultyServer  # noqa: E402
from two_tiers import ON_BOARD, WAIT_S, TwoTiers  # noqa: E402

from timebill_ros.codes import ErrorCode, Tier  # noqa: E402
from timebill_ros.dispatch.tiers import OneTier  # noqa: E402


def check(tiers, job):
    """Look at a goal once it has ended: in time, once, with the text of one tier."""
    assert job.ended.wait(WAIT_S) and tiers.ends[job.request.request_id] == 1
    outcome = job.outcome
    assert outcome.error_code is ErrorCode.NONE, outcome
    assert job.timing.tardiness_s == 0.0 and job.timing.response_time_s <= job.request.time_budget_s
    assert (outcome.text, job.timing.tier) in ((ANSWER, Tier.OFFBOARD), (ON_BOARD, Tier.ONBOARD))
    return job.timing.tier


@pytest.fixture(scope='module')
def server():
    made = FaultyServer()
    yield made
    made.close()


@pytest.fixture(scope='module')
def tiers(server, tmp_path_factory):
    made = TwoTiers(tmp_path_factory.mktemp('two_tiers'), server.url)
    yield made
    made.dispatcher.close()


@pytest.mark.parametrize('fault', FAULTS)
def test_with_every_fault_the_answer_on_board_is_in_time(tiers, server, fault):
    assert check(tiers, tiers.ask(f'Where are you? [{fault}]')) is (
        Tier.OFFBOARD if fault == 'none' else Tier.ONBOARD)
    assert check(tiers, tiers.ask('And now?')) is Tier.OFFBOARD, 'and the next goal has the better answer'


def test_nothing_is_sent_without_the_goals_leave(tiers, server):
    asked, connections = len(server.questions), server.n_connections
    assert check(tiers, tiers.ask('A secret.', allow_offboard=False)) is Tier.ONBOARD
    assert (len(server.questions), server.n_connections) == (asked, connections)


def test_without_a_url_there_is_no_second_process_and_no_connection(tmp_path, server):
    connections, processes = server.n_connections, callers()
    tiers = TwoTiers(tmp_path, '')
    assert check(tiers, tiers.ask('Where are you?')) is Tier.ONBOARD
    assert (server.n_connections, callers()) == (connections, processes)
    assert isinstance(tiers.dispatcher.tier, OneTier)
    tiers.dispatcher.close()


def callers():
    """Return the processes of this one that call servers."""
    children = Path('/proc/self/task').glob('*/children')
    pids = [pid for file in children for pid in file.read_text().split()]
    return {pid for pid in pids if b'offboard' in Path('/proc', pid, 'cmdline').read_bytes()}


def test_without_a_url_nothing_of_it_is_imported():
    code = ('import sys; from timebill_ros.dispatch.dispatcher import Dispatcher; '
            'Dispatcher(None, {"offboard_url": ""}, None).close(); '
            'print([name for name in sys.modules if "offboard" in name or name in ("httpx", "ssl", "asyncio")])')
    made = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=WAIT_S, check=True,
                          cwd=Path(__file__).resolve().parents[3])
    assert made.stdout == '[]\n'


def test_a_process_that_is_killed_costs_no_goal(tiers):
    job = tiers.ask('Where are you? [stalls]', 10.0)
    until = time.monotonic() + WAIT_S
    while not job.timing.offboard_first_token_s > 0 and time.monotonic() < until:
        time.sleep(0.01)
    tiers.dispatcher.tier._line._process.kill()
    assert check(tiers, job) is Tier.ONBOARD and job.timing.response_time_s < 9.0, 'it does not wait for its deadline'
    while tiers.dispatcher.tier.state != 1 and time.monotonic() < until:
        time.sleep(0.05)
    assert check(tiers, tiers.ask('And now?')) is Tier.OFFBOARD


@pytest.mark.slow
def test_500_goals_with_all_faults(tmp_path):
    """Also a server that is quicker or slower than the model on board, as it comes."""
    server, draw = FaultyServer(), random.Random(0)
    tiers = TwoTiers(tmp_path, server.url)
    slots, jobs = threading.Semaphore(4), []
    for _ in range(500):
        slots.acquire()
        if draw.random() < 0.1:
            server.after_s, server.per_s = draw.choice([(0.0, 0.0), (0.05, 0.01), (0.3, 0.05), (1.0, 0.2)])
        fault = draw.choice(list(FAULTS)) if draw.random() < 0.2 else 'none'
        job = tiers.ask(f'Where are you? [{fault}]', draw.uniform(1.0, 2.0))
        jobs.append((fault, job))
        threading.Thread(target=lambda job=job: (job.ended.wait(WAIT_S), slots.release()), daemon=True).start()
    shares = collections.Counter(check(tiers, job) for _, job in jobs)
    tiers.dispatcher.close()
    server.close()
    asked = tiers.dispatcher.tier.asked
    print(f'500 goals: {shares[Tier.OFFBOARD]} answered by the server of {asked} that it was asked for, '
          f'{shares[Tier.ONBOARD]} on board, 0 late')
    assert all(job.timing.tier is Tier.ONBOARD for fault, job in jobs if fault != 'none')
    assert shares[Tier.OFFBOARD] >= 50 and shares[Tier.ONBOARD] >= 50
    # Worth 1 on board and 2 by the server: more than the 500 on board alone, and than the server alone gave.
    assert shares[Tier.ONBOARD] + 2 * shares[Tier.OFFBOARD] > max(500, 2 * shares[Tier.OFFBOARD])
