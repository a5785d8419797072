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

"""A node with a second tier over DDS: what a goal allows, whose answer it gets, and what it hears of it."""
from __future__ import annotations

import pytest

pytest.importorskip('httpx')
from faulty_server import ANSWER, FaultyServer  # noqa: E402
from node_client import SUCCEEDED, Result, make_goal, wait_until  # noqa: E402
from node_process import NodeProcess  # noqa: E402

from timebill_ros.msg import ChatMessage, DeadlineStats, RequestStatus, Timing  # noqa: E402

ON_BOARD = 'I am on board and small'
SCRIPT = f"""format: 1
times: {{prompt_s: 0.0, prompt_token_s: 0.0, token_s: 0.05}}
answers: [{{text: '{ON_BOARD}'}}]
"""


@pytest.fixture(scope='module')
def server():
    made = FaultyServer(after_s=0.5, per_s=0.05)
    yield made
    made.close()


@pytest.fixture(scope='module')
def node(server, tmp_path_factory):
    script = tmp_path_factory.mktemp('script') / 's.yaml'
    script.write_text(SCRIPT)
    with NodeProcess(worker='scripted', script=str(script), offboard_url=server.url, offboard_model='large',
                     offboard_quality=2.0, delivery_margin_s=0.3) as node:
        yield node.start()


def ended(node, sent):
    status, result = sent.result()
    assert (status, result.error_code, result.timing.tardiness_s) == (SUCCEEDED, Result.NONE, 0.0)
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    last = [message for message in node.statuses if message.request_id == sent.id][-1]
    assert last.tier == result.timing.tier
    wait_until(lambda: sent.text == result.text)
    return result


def test_nothing_leaves_by_itself(node, server):
    result = ended(node, node.send(make_goal('A secret.', 20.0)))
    assert (result.text, result.timing.tier) == (ON_BOARD, Timing.TIER_ONBOARD)
    assert server.n_connections == 0 and result.timing.offboard_s != result.timing.offboard_s


def test_the_better_answer_and_feedback_of_its_text_only(node, server):
    result = ended(node, node.send(make_goal('Where are you?', 20.0, allow_offboard=True)))
    assert (result.text, result.timing.tier, result.timing.variant) == (ANSWER, Timing.TIER_OFFBOARD, 'large')
    assert 0.4 < result.timing.offboard_first_token_s < result.timing.offboard_s < result.timing.response_time_s
    assert server.questions[-1][1]['prompt'] == 'Where are you?'


def test_a_server_that_stalls_leaves_the_answer_on_board_in_time(node):
    result = ended(node, node.send(make_goal('Where are you? [stalls]', 3.0, allow_offboard=True)))
    assert (result.text, result.timing.tier) == (ON_BOARD, Timing.TIER_ONBOARD)
    assert result.timing.response_time_s < 3.0


def test_stats_tell_the_tiers_apart(node):
    heard = []
    subscription = node._node.create_subscription(DeadlineStats, 'timebill/stats', heard.append, 10)
    before = wait_until(lambda: heard and heard[-1])
    assert (before.offboard_state, before.offboard_running) == (DeadlineStats.OFFBOARD_ASKED, 0)
    for allowed in (True, False, False):
        ended(node, node.send(make_goal('Where are you?', 20.0, allow_offboard=allowed)))

    def counts(stats):
        return stats.offboard_asked, stats.offboard_answered, stats.onboard_answered

    asked, offboard, onboard = counts(before)
    last = wait_until(lambda: counts(heard[-1]) == (asked + 1, offboard + 1, onboard + 2) and heard[-1])
    assert last.offboard_s > 0.4 and last.onboard_s > 0.1
    node._node.destroy_subscription(subscription)


@pytest.mark.parametrize(('parameters', 'why'), [
    ({'offboard_model': ''}, 'offboard_url needs offboard_model'),
    ({'offboard_key_file': '/nowhere/key'}, 'offboard_key_file /nowhere/key'),
    ({'offboard_url': 'host:8000'}, "offboard_url 'host:8000")])
def test_what_cannot_work_fails_at_configure(server, parameters, why):
    given = {'offboard_url': server.url, 'offboard_model': 'large', **parameters}
    with NodeProcess(worker='scripted', **given) as node:
        assert not node.configure()
        assert f'configure failed: {why}' in node.log


@pytest.mark.slow
def test_another_robots_door_may_be_the_server(tmp_path):
    """Which tells more in its stream than OpenAI's API has, and serves with starlette and uvicorn."""
    pytest.importorskip('starlette')
    from door_program import DoorProgram
    for name, answer in (('large', 'the answer of a large robot'), ('small', ON_BOARD)):
        (tmp_path / f'{name}.yaml').write_text(SCRIPT.replace(ON_BOARD, answer))
    with NodeProcess(worker='scripted', script=str(tmp_path / 'large.yaml')) as large:
        large.start()
        with DoorProgram(large.server, '--deadline', '20') as door, NodeProcess(
                worker='scripted', script=str(tmp_path / 'small.yaml'), offboard_url=door.url,
                offboard_model='timebill', offboard_quality=2.0) as small:
            small.start()
            for fields in ({'prompt': 'Where to?'}, {'prompt': '', 'messages': [
                    ChatMessage(role='user', content='Where to?')]}):
                result = ended(small, small.send(make_goal(budget_s=20.0, allow_offboard=True, **fields)))
                assert (result.text, result.timing.tier) == ('the answer of a large robot', Timing.TIER_OFFBOARD)
            result = ended(small, small.send(make_goal('Where to?', 20.0, allow_offboard=True, max_new_tokens=3)))
            assert (result.text, result.finish_reason) == ('the answer of', Result.FINISH_LENGTH)
