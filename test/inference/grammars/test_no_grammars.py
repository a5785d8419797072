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

"""What goals are told where answers cannot be given a form."""
import pytest

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference.grammars.no_grammars import NoGrammars
from timebill_ros.request import Request

NOTHING = NoGrammars('there is no library')


def request(**fields):
    return Request('id', 0.0, 1.0, prompt='p', **fields)


def test_a_goal_without_a_form_is_served():
    assert NOTHING.start(request()) is None and NOTHING.collect(None, lambda: False) is None


@pytest.mark.parametrize('fields', [{'response_schema': '{}'}, {'regex': 'a'}, {'choices': ['a']}])
def test_a_goal_with_a_form_is_refused(fields):
    with pytest.raises(GoalError, match='there is no library') as refused:
        NOTHING.start(request(**fields))
    assert refused.value.code is ErrorCode.INVALID_GOAL
