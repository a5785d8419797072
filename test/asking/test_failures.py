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

"""Codes have names, whoever sends them."""
import pytest

from timebill_ros.action import Generate
from timebill_ros.asking.failures import ServerUnavailable, code_name
from timebill_ros.codes import ErrorCode


@pytest.mark.parametrize('code', ErrorCode)
def test_every_code_of_the_node_has_its_name(code):
    assert code_name(code) == code.name


@pytest.mark.parametrize('name', ['TIMEOUT', 'GOAL_REJECTED', 'SEND_GOAL_FAILURE'])
def test_the_codes_of_clients_have_names(name):
    assert code_name(getattr(Generate.Result, name)) == name


def test_a_code_of_a_newer_node_is_told_by_its_number():
    assert code_name(7999) == '7999'


def test_a_failure_says_which_one_it_is():
    assert code_name(ServerUnavailable('gone').code) == 'TIMEOUT'
    assert str(ServerUnavailable('gone', Generate.Result.GOAL_REJECTED)) == 'gone'
