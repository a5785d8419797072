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

"""The client: what it does not send."""
import pytest

from timebill_ros.action import Generate
from timebill_ros.client import Client, chat, check_text
from timebill_ros.msg import SamplingConfig


def goal(**fields):
    return Generate.Goal(**{'prompt': 'one', **fields})


@pytest.mark.parametrize(('bad', 'named'), [
    (goal(prompt='one\0two'), 'prompt holds a NUL at character 3'),
    (goal(messages=chat(dict(role='user', content='fine'), dict(role='user', content='\0'))),
     r'messages\[1\]\.content'),
    (goal(messages=chat(dict(role='us\0er', content='fine'))), r'messages\[0\]\.role'),
    (goal(closing_text=']\0'), 'closing_text'),
    (goal(sampling=SamplingConfig(stop=['x', 'y\0z'])), r'sampling\.stop\[1\]'),
])
def test_a_text_with_a_nul_is_not_sent(bad, named):
    """ROS messages carry a text up to its first NUL, and the node would answer half a question."""
    client = object.__new__(Client)  # no connection is needed: nothing is sent
    with pytest.raises(ValueError, match=named):
        client.send(bad)
    with pytest.raises(ValueError, match=named):
        client.estimate(bad, 1.0)


def test_other_text_is_sent():
    check_text(goal(prompt='one\n\t\x01 \u597d', messages=chat(dict(role='user', content=''))))
