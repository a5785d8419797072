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

"""What the streamer sends while a request runs: text as far as it is certain, and plans that were made again."""
from __future__ import annotations

import contextlib
import time

import pytest
from mock_model import ByteTokenizer

from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.request import Plan, Request, Sampling, Timing
from timebill_ros.worker import streamer
from timebill_ros.worker.streamer import Streamer


class Sent(list):
    """In the place of a Channel: the messages that were sent."""

    def send(self, message):
        self.append(message)

    @property
    def text(self):
        return ''.join(message.get('delta', '') for message in self)


def wait_for(condition):
    until = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


@contextlib.contextmanager
def streaming(answer: bytes, stop=()):
    """(messages, say): `say(n)` counts n tokens of `answer`, and waits until the streamer has seen them."""
    sent, control = Sent(), Control(Deadline(1e9), tokens=list(answer))
    request = Request('r', 0.0, 1e9, prompt='p', sampling=Sampling(stop=list(stop)))
    def say(n):
        control.n_tokens = n
        wait_for(lambda: any(message.get('n') == n for message in list(sent)))

    running = Streamer(sent)
    running.start()
    with running.streaming(ByteTokenizer(), request, control):
        yield sent, say, control


def test_text_comes_as_tokens_are_counted():
    with streaming(b'tidy up') as (sent, say, _):
        say(4)
        assert sent.text == 'tidy'
        say(7)
        assert sent.text == 'tidy up' and [message['n'] for message in sent] == [4, 7]
        assert {(message['event'], message['id']) for message in sent} == {('text', 'r')}


def test_half_a_character_is_held_back():
    answer = 'süß'.encode()
    with streaming(answer) as (sent, say, _):
        say(2)
        assert sent.text == '', 's came with half of an umlaut'
        say(len(answer))
        assert sent.text == 'süß'


@pytest.mark.parametrize(('n', 'text'), [(5, 'tid'), (6, 'tidy'), (7, 'tidy '), (9, 'tidy up')])
def test_what_may_begin_a_stop_string_is_held_back(n, text):
    """As many characters as the longest has, less 1; a whole stop string, and what follows, never come."""
    with streaming(b'tidy upENDx', stop=['END', '#']) as (sent, say, _):
        say(n)
        assert sent.text == text
        say(10)
        assert sent.text == 'tidy up'
        say(11)
        assert sent.text == 'tidy up'


def test_a_plan_made_again_is_sent_once():
    with streaming(b'tidy') as (sent, say, control):
        control.revised = (Plan(), Timing(prompt_tokens=9))
        wait_for(lambda: sent)
        say(4)
        plan, text = sent
        assert (plan['event'], plan['id'], plan['timing']['prompt_tokens'], text['event']) == ('plan', 'r', 9, 'text')


def test_the_node_is_told_that_prefill_goes_on_and_only_while_it_does(monkeypatch):
    """The streamer's thread lives on when prefill hangs, and must not speak for it."""
    monkeypatch.setattr(streamer, 'SIGN_PERIOD_S', 0.02)
    with streaming(b'tidy') as (sent, _, control):
        time.sleep(0.1)
        assert not sent, 'nothing has looked at the control'
        for n in (1, 2):
            control.should_stop()
            wait_for(lambda n=n: len(sent) == n)
        time.sleep(0.1)
        assert [(message['event'], message['id'], message['looks']) for message in sent] == [
            ('alive', 'r', 1), ('alive', 'r', 2)]


def test_nothing_is_sent_after_it_is_closed():
    with streaming(b'tidy') as (sent, say, control):
        say(2)
    control.n_tokens = 4
    time.sleep(0.05)
    assert len(sent) == 1


def test_a_request_inside_of_another_has_a_stream_of_its_own():
    sent = Sent()
    running = Streamer(sent)  # its thread is not started: what is sent here is sent at once
    controls = [Control(Deadline(1e9), tokens=list(text), n_tokens=n) for text, n in ((b'tidy up', 4), (b'yes', 3))]
    requests = [Request(name, 0.0, 1e9, prompt='p') for name in ('outer', 'inner')]
    with running.streaming(ByteTokenizer(), requests[0], controls[0]):
        running.catch_up()
        with running.streaming(ByteTokenizer(), requests[1], controls[1]):
            controls[0].n_tokens = 7
            running.catch_up()
        running.catch_up()
    assert [(message['id'], message['delta']) for message in sent] == [
        ('outer', 'tidy'), ('inner', 'yes'), ('outer', ' up')]
    running.catch_up()
    assert len(sent) == 3
