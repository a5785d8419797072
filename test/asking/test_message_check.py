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

"""Each field of a message is refused with its name, its value and what to give, or arrives as it is."""
import math

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from timebill_ros.action import Generate
from timebill_ros.asking.message_check import check_fields
from timebill_ros.msg import ChatMessage, SamplingConfig


def goal(**fields):
    """A goal with these fields, of whatever kind; some versions of ROS check them here already."""
    made = Generate.Goal(prompt='one')
    for name, value in fields.items():
        setattr(made, f'_{name}', value)
    return made


def sampling(**fields):
    made = SamplingConfig()
    for name, value in fields.items():
        setattr(made, f'_{name}', value)
    return made


@pytest.mark.parametrize(('bad', 'told'), [
    (goal(max_new_tokens=-1), 'max_new_tokens must be a whole number from 0 to 4294967295, got -1'),
    (goal(max_new_tokens=2 ** 33), 'max_new_tokens must be a whole number from 0 to 4294967295, got 8589934592'),
    (goal(max_new_tokens=1.5), 'max_new_tokens must be a whole number .* got 1.5'),
    (goal(overrun_strategy=300), 'overrun_strategy must be a whole number from 0 to 255, got 300'),
    (goal(priority=256), 'priority must be a whole number from 0 to 255, got 256'),
    (goal(priority='high'), "priority must be a whole number from 0 to 255, got 'high'"),
    (goal(max_eviction_ratio='0.5'), r"max_eviction_ratio must be a number from -3.403e\+38 to 3.403e\+38, got '0.5'"),
    (goal(max_eviction_ratio=1e300), 'max_eviction_ratio must be a number .* got 1e'),
    (goal(stop_at_line_end=1), 'stop_at_line_end must be True or False, got 1'),
    (goal(time_budget=2), 'time_budget must be a message of the type builtin_interfaces/Duration, got 2'),
    (goal(sampling=5), 'sampling must be a message of the type timebill_ros/SamplingConfig, got 5'),
    (goal(sampling=None), 'sampling must be a message of the type timebill_ros/SamplingConfig, got None'),
    (goal(sampling=sampling(seed=-1)), r'sampling\.seed must be a whole number from 0 to 18446744073709551615, got -1'),
    (goal(sampling=sampling(top_k=None)), r'sampling\.top_k must be a whole number from 0 to 4294967295, got None'),
    (goal(sampling=sampling(stop='x')), r"sampling\.stop must be a list, got 'x'"),
    (goal(sampling=sampling(stop=['x', 5])), r'sampling\.stop\[1\] must be text, got 5'),
    (goal(messages='hello'), "messages must be a list, got 'hello'"),
    (goal(messages=[{'role': 'user'}]), r'messages\[0\] must be a message of the type timebill_ros/ChatMessage, got'),
    (goal(messages=[ChatMessage(role='us\0er')]), r'messages\[0\]\.role holds a NUL at character 2'),
    (goal(prompt='one\0two'), 'prompt holds a NUL at character 3; ROS messages end a text there'),
    (goal(prompt=None), 'prompt must be text, got None'),
    (goal(prompt='a\ud800'), r"prompt holds '\\ud800' at character 1, half of a surrogate pair"),
    (goal(closing_text='\udc00'), r"closing_text holds '\\udc00' at character 0"),
])
def test_what_a_message_cannot_carry_is_told(bad, told):
    with pytest.raises(ValueError, match=told):
        check_fields(bad)


@pytest.mark.parametrize(('name', 'given', 'arrives'), [
    ('max_new_tokens', np.int64(7), 7), ('max_new_tokens', 2 ** 32 - 1, 2 ** 32 - 1), ('priority', 255, 255),
    ('max_eviction_ratio', 0, 0.0), ('max_eviction_ratio', np.float32(0.5), 0.5),
    ('max_eviction_ratio', math.inf, math.inf),
    ('stop_at_line_end', True, True), ('prompt', 'one\n\x01 \u597d \U0001f916', 'one\n\x01 \u597d \U0001f916'),
])
def test_what_a_message_can_carry_arrives_as_it_is(name, given, arrives):
    made = goal(**{name: given})
    check_fields(made)
    assert getattr(deserialize_message(serialize_message(made), Generate.Goal), name) == arrives


def test_nested_fields_arrive_as_they_are():
    made = goal(sampling=sampling(temperature=1, stop=('a', 'b')), messages=(ChatMessage(role='user', content='x'),))
    check_fields(made)
    came = deserialize_message(serialize_message(made), Generate.Goal)
    assert (came.sampling.temperature, list(came.sampling.stop), came.messages[0].content) == (1.0, ['a', 'b'], 'x')
