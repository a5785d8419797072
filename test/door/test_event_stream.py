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

"""What is still to be sent at the end of a stream; test_completions.py tests whole streams."""
import asyncio
from types import SimpleNamespace

import pytest

from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.codes import Part
from timebill_ros.door import event_stream
from timebill_ros.door.answer_objects import Writer
from timebill_ros.door.body import ClientGone
from timebill_ros.door.event_stream import EventStream, rest_of
from timebill_ros.door.fields import Question
from timebill_ros.door.goal_events import Written


@pytest.mark.parametrize(('whole', 'shown', 'rest'), [
    ('two three', '', 'two three'), ('two three', 'two ', 'three'), ('two', 'two', ''), ('two', 'two \n', ''),
    ('two', '\n two ', ''), ('', '\n', ''), ('', '', ''), ('three', 'two', None), ('', 'two', None),
    ('two three', 'two x', None), ('two three', '\n two', ' three'), ('two\nthree', 'two\n\n', 'three'),
    ('two\nthree', ' two\n\n', 'three'), ('two three', ' three', None)])
def test_what_is_left_to_be_shown_of_an_answer(whole, shown, rest):
    assert rest_of(whole, shown) == rest


def test_a_client_that_does_not_receive_an_error_is_gone_too(monkeypatch):
    monkeypatch.setattr(event_stream, 'SEND_S', 0.02)
    goal = SimpleNamespace(response_schema='', choices=[], regex='', stop_at_line_end=False)
    question = Question(goal, True, 1.0, True)
    sent = []

    async def send(message):
        if len(sent) == 3:
            await asyncio.sleep(3600)
        sent.append(message)

    async def events():
        yield Written('two', Part.TEXT)
        raise ServerUnavailable('the node is gone')

    with pytest.raises(ClientGone):
        asyncio.run(EventStream(question, Writer(question, 'ab', 'm'), {}, send).run(events()))
    assert b'two' in sent[-1]['body']
