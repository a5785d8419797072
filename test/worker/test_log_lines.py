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

"""The worker's log lines on their way to the node."""
import logging
import socket

import pytest

from timebill_ros.dispatch.channel import Channel
from timebill_ros.worker.log_lines import send_to_node, take_transformers_along


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    yield Channel(ours), Channel(theirs)
    ours.close()
    theirs.close()


@pytest.fixture(autouse=True)
def loggers():
    """Begin with this package's logging as in a new process, and put it back; a node in this process bridges it."""
    root, package = logging.getLogger(), logging.getLogger('timebill_ros')
    before = list(root.handlers), root.level, package.level, list(package.handlers), package.propagate
    package.handlers[:], package.propagate = [], True
    yield
    root.handlers[:], package.handlers[:] = before[0], before[3]
    root.setLevel(before[1])
    package.setLevel(before[2])
    package.propagate = before[4]


def lines(node, channel):
    channel.close()
    return [(message['level'], message['text']) for message in node.receive()]


@pytest.mark.parametrize(('level', 'ours', 'theirs'), [
    (logging.DEBUG, [10, 20, 30, 40], [20, 30, 40]),
    (logging.INFO, [20, 30, 40], [20, 30, 40]),
    (logging.ERROR, [40], [40]),
])
def test_lines_of_the_nodes_level_and_above_are_sent(level, ours, theirs, ends):
    node, channel = ends
    send_to_node(channel, level)
    for name in ('timebill_ros.worker.loading', 'a_library'):
        for number in (10, 20, 30, 40):
            logging.getLogger(name).log(number, '%s says %d', name, number)
    assert lines(node, channel) == [(number, f'timebill_ros.worker.loading says {number}') for number in ours] + \
        [(number, f'a_library says {number}') for number in theirs]


def test_what_transformers_logs_is_sent_too(ends, capfd, request):
    from transformers.utils import logging as of_transformers
    node, channel = ends
    send_to_node(channel, logging.INFO)
    take_transformers_along()
    request.addfinalizer(of_transformers.enable_default_handler)
    request.addfinalizer(of_transformers.disable_propagation)
    logging.getLogger('transformers.modeling_utils').warning('weights are missing')
    assert lines(node, channel) == [(logging.WARNING, 'weights are missing')]
    assert 'missing' not in capfd.readouterr().err


def test_a_line_has_its_traceback(ends):
    node, channel = ends
    send_to_node(channel, logging.INFO)
    try:
        raise RuntimeError('broken')
    except RuntimeError:
        logging.getLogger('timebill_ros.worker').exception('request 7 failed')
    (level, text), = lines(node, channel)
    assert level == logging.ERROR and text.startswith('request 7 failed\nTraceback') and 'broken' in text


def test_once_the_node_is_gone_lines_go_to_standard_error(ends, capsys):
    node, channel = ends
    send_to_node(channel, logging.INFO)
    node.close()
    logging.getLogger('timebill_ros.worker').warning('alone')
    assert capsys.readouterr().err == '[WARNING] [timebill worker]: alone\n'


def test_a_finalizer_may_log_in_the_midst_of_another_message(ends):
    node, channel = ends
    send_to_node(channel, logging.INFO)
    with channel._lock:
        logging.getLogger('timebill_ros.worker').warning('a finalizer ran')
    assert lines(node, channel) == [(logging.WARNING, 'a finalizer ran')]
