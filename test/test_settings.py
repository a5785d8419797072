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

"""The table of parameters: its own defaults, what it refuses, and the file made from it."""
import math
from pathlib import Path

import pytest
import yaml

from timebill_ros.settings import BY_NAME, PARAMETERS, as_yaml, check

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = [p for p in PARAMETERS if type(p.default) in (int, float)]


def by_name(parameter):
    return parameter.name


def test_check_fills_in_defaults():
    assert check({}) == {p.name: p.default for p in PARAMETERS}
    assert check({'threads': 3}) == {**check({}), 'threads': 3}


@pytest.mark.parametrize('parameter', PARAMETERS, ids=by_name)
def test_every_parameter_is_declared_whole(parameter):
    parameter.check(parameter.default)
    assert parameter.description.endswith('.')
    if parameter in NUMBERS:
        assert parameter.low <= parameter.default <= parameter.high
        # ROS descriptors want bounds of the parameter's own type.
        assert type(parameter.low) is type(parameter.high) is type(parameter.default)
        shares = ('max_eviction_ratio', 'promise_quality', 'pessimistic_factor', 'miss_rate', 'adaptation_step',
                  'offboard_quality')
        assert parameter.unit or parameter.name in shares
    if parameter.choices:
        assert parameter.default in parameter.choices
        # As `-p name:=choice` and YAML files have them: a bare `off` would be a boolean.
        assert [yaml.safe_load(choice) for choice in parameter.choices] == list(parameter.choices)


def test_names_are_unique():
    assert len(BY_NAME) == len(PARAMETERS)


@pytest.mark.parametrize('parameter', NUMBERS, ids=by_name)
def test_bounds_are_kept(parameter):
    parameter.check(parameter.low)
    parameter.check(parameter.high)
    for value in (parameter.low - 1, parameter.high + 1):
        with pytest.raises(ValueError) as caught:
            check({parameter.name: value})
        assert parameter.name in str(caught.value) and f'got {value!r}' in str(caught.value)


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('modle', 'x', "unknown parameter 'modle'"),
    ('threads', '3', "threads must be of type int, got '3'"),
    ('threads', 3.0, 'threads must be of type int, got 3.0'),
    ('threads', True, 'threads must be of type int, got True'),
    ('threads', None, 'threads must be of type int, got None'),
    ('model', 3, 'model must be of type str, got 3'),
    ('trust_remote_code', 1, 'trust_remote_code must be of type bool, got 1'),
    ('feedback_rate', True, 'feedback_rate must be of type float, got True'),
    ('feedback_rate', '20', "feedback_rate must be of type float, got '20'"),
    ('feedback_rate', [20.0], r'feedback_rate must be of type float, got \[20.0\]'),
    ('max_eviction_ratio', 1.0, 'max_eviction_ratio must be from 0.0 to 0.99, got 1.0'),
    ('dtype', 'int2', "dtype must be one of auto, float32, bfloat16, float16, int8, int4, got 'int2'"),
    ('default_overrun_strategy', 'skip_late', "got 'skip_late'"),
    ('delivery_margin_s', math.nan, 'delivery_margin_s must be finite, got nan'),
    ('delivery_margin_s', math.inf, 'delivery_margin_s must be finite, got inf'),
])
def test_refused_with_name_and_value(name, value, message):
    with pytest.raises(ValueError, match=message):
        check({name: value})


def test_a_whole_number_is_a_float():
    """As a person writes it in YAML; ROS itself refuses it, the command line need not."""
    assert check({'feedback_rate': 20})['feedback_rate'] == 20


def test_the_file_in_config_is_made_from_the_table():
    assert (ROOT / 'config' / 'timebill.yaml').read_text() == as_yaml()


def test_the_file_holds_every_default_in_its_own_type():
    values = yaml.safe_load(as_yaml())['/**']['ros__parameters']
    assert values == check({})
    assert {name: type(value) for name, value in values.items()} == {p.name: type(p.default) for p in PARAMETERS}
