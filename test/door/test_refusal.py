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

"""How errors are told: every code of a goal has a status, and the sentence is the node's own."""
import pytest

from timebill_ros.action import Generate
from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.codes import ErrorCode
from timebill_ros.door.refusal import of_field, of_result, of_unavailable

STATUS = {'UNKNOWN': 500, 'DEADLINE_MISSED': 504, 'INVALID_GOAL': 400, 'INACTIVE': 503, 'PROMPT_TOO_LONG': 400,
          'INFEASIBLE': 422, 'SKIPPED': 503, 'OUT_OF_MEMORY': 500, 'WORKER_LOST': 503, 'CANCELED': 503, 'BUSY': 429,
          'PREEMPTED': 503}


@pytest.mark.parametrize('code', [code for code in ErrorCode if code], ids=lambda code: code.name)
def test_every_error_of_a_goal_has_a_status_and_the_nodes_sentence(code):
    refusal = of_result(Generate.Result(error_code=int(code), error_msg=f'of {code.name}'), {'error': code.name})
    assert refusal.status == STATUS[code.name]
    error = refusal.body()['error']
    assert error['message'] == f'of {code.name}' and error['timebill'] == {'error': code.name}
    name = 'context_length_exceeded' if code is ErrorCode.PROMPT_TOO_LONG else code.name.lower()
    assert error['code'] == name


def test_an_error_of_a_newer_node_is_told_too():
    refusal = of_result(Generate.Result(error_code=7999, error_msg='new'), {})
    assert (refusal.status, str(refusal)) == (500, 'new')


def test_only_what_took_no_time_may_be_asked_again_by_a_library():
    """Another try starts another deadline, unseen by the caller whose deadline is over."""
    again = {code.name for code in ErrorCode if code and
             of_result(Generate.Result(error_code=int(code)), {}).headers['x-should-retry'] == 'true'}
    assert again == {'BUSY'}
    assert of_unavailable(ServerUnavailable('gone')).headers['x-should-retry'] == 'false'
    told = of_unavailable(ServerUnavailable('gone'), may_ask_again=True)
    assert (told.status, told.headers) == (503, {'x-should-retry': 'true', 'retry-after': '1'})


def test_a_field_is_named():
    assert of_field('n', 'only 1 is served here').body() == {'error': {
        'message': 'only 1 is served here', 'type': 'invalid_request_error', 'param': 'n', 'code': 'invalid_value'}}
