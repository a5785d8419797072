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

"""Messages over a socket pair: whole, in order, from several threads, until either end is closed."""
import math
import socket
import threading

import pytest

from timebill_ros.dispatch.channel import Channel

LARGE = 5_000_000  # far more than the socket's buffer


@pytest.fixture
def sockets():
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
def ends(sockets):
    return Channel(sockets[0]), Channel(sockets[1])


class Reader(threading.Thread):
    """Receives messages until the end, in a thread of its own."""

    def __init__(self, channel):
        super().__init__(daemon=True)
        self.channel, self.messages = channel, []
        self.start()

    def run(self):
        self.messages.extend(self.channel.receive())

    def result(self):
        self.join(10.0)
        assert not self.is_alive(), 'receive did not end'
        return self.messages


@pytest.mark.parametrize('message', [
    {}, {'op': 'run', 'nested': {'list': [1, 2.5, None, True, '']}},
    {'text': 'line\nline\r\n\u2028 🤖 \x00 \ud800'}, {'text': 'x' * LARGE}, {'n': 2 ** 64 - 1, 'small': 5e-324},
], ids=['empty', 'nested', 'every kind of line end', 'large', 'numbers'])
def test_a_message_arrives_as_it_was_sent(ends, message):
    here, there = ends
    reader = Reader(there)
    assert here.send(message)
    assert here.send({'last': 1})
    here.close()
    assert reader.result() == [message, {'last': 1}]


def test_nan_and_infinity_arrive(ends):
    here, there = ends
    here.send({'a': math.nan, 'b': -math.inf})
    here.close()
    (message,) = there.receive()
    assert math.isnan(message['a']) and message['b'] == -math.inf


def test_both_directions_at_once(ends):
    """Both ends send more than the buffers hold, so neither can finish before the other reads."""
    readers = [Reader(end) for end in ends]
    senders = [threading.Thread(target=end.send, args=({'from': i, 'x': 'x' * LARGE},)) for i, end in enumerate(ends)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(10.0)
    ends[0].close()
    assert [[message['from'] for message in reader.result()] for reader in readers] == [[1], [0]]


def test_concurrent_senders_do_not_mix_their_lines(ends):
    here, there = ends
    reader = Reader(there)

    def send_all(sender):
        for i in range(5):
            here.send({'sender': sender, 'i': i, 'filling': str(sender) * LARGE})

    threads = [threading.Thread(target=send_all, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    here.close()
    messages = reader.result()
    assert all(message['filling'] == str(message['sender']) * LARGE for message in messages)
    for sender in range(4):  # each sender's own order is kept
        assert [message['i'] for message in messages if message['sender'] == sender] == list(range(5))


@pytest.mark.parametrize('garbage', [
    b'hello\n', b'{"a": 1\n', b'\n', b'\xff\xfe\n', b'\x80\x04\x95pickle\n', b'{"cut": "off', b'{"a": 1}{"b": 2}\n',
    b'[' * 100_000 + b'\n', b'5\n', b'["op"]\n', b'null\n',
])
def test_garbage_ends_it(sockets, garbage):
    """Messages before it arrive, those after it do not, and nothing raises."""
    sockets[0].sendall(b'{"good": 1}\n' + garbage + (b'{"after": 1}\n' if garbage.endswith(b'\n') else b''))
    sockets[0].close()
    assert list(Channel(sockets[1]).receive()) == [{'good': 1}]


@pytest.mark.parametrize('closing', [0, 1])
def test_closing_either_end_ends_a_receive_that_waits(ends, closing):
    readers = [Reader(end) for end in ends]
    assert ends[0].send({'a': 1})
    ends[closing].close()
    for reader in readers:
        assert reader.result() in ([], [{'a': 1}])
    assert [end.send({'b': 2}) for end in ends] == [False, False]
    assert [list(end.receive()) for end in ends] in ([[], []], [[], [{'a': 1}]])


def test_closing_twice_is_harmless(ends):
    for end in (*ends, *ends):
        end.close()
    assert list(ends[0].receive()) == []


def test_what_is_no_json_is_the_senders_mistake(ends):
    with pytest.raises(TypeError):
        ends[0].send({'a': object()})
    assert ends[0].send({'a': 1})  # the lock is free and the line is clean
    ends[0].close()
    assert list(ends[1].receive()) == [{'a': 1}]


def test_a_sender_that_waits_learns_that_the_other_end_is_gone(ends):
    """Nobody reads, so the buffers fill up and the sender blocks; then the other end closes."""
    answers = []
    sender = threading.Thread(target=lambda: answers.append(ends[0].send({'x': 'x' * LARGE})))
    sender.start()
    ends[1].close()
    sender.join(10.0)
    assert answers == [False]
