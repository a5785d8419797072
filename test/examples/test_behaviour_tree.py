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

"""The example tree asks, or else stops."""
import pytest
from node_client import WAIT_S, wait_until

py_trees = pytest.importorskip('py_trees')
from py_trees.common import Access, Status  # noqa: E402


@pytest.mark.parametrize(('question', 'ended'), [('say go kitchen', ['ask']), ('hopeless', ['ask', 'stop'])])
def test_the_tree_asks_or_stops(load, client, question, ended):
    py_trees.blackboard.Blackboard.clear()
    board = py_trees.blackboard.Client(name='test')
    for key in ('messages', 'budget_s'):
        board.register_key(key, access=Access.WRITE)
    board.messages, board.budget_s = question, WAIT_S
    tree = load('behaviour_tree').make_tree(client)
    tree.setup()
    wait_until(lambda: tree.tick() or tree.root.status == Status.SUCCESS)
    assert [child.name for child in tree.root.children if child.status != Status.INVALID] == ended
    assert tree.root.children[0].status == (Status.SUCCESS if len(ended) == 1 else Status.FAILURE)
    tree.shutdown()
