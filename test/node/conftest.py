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

"""A running node, shared by the whole test run because a start takes seconds, and a way to change its parameters."""
from __future__ import annotations

import pytest
from node_process import NodeProcess


@pytest.fixture(scope='session')
def node():
    with NodeProcess() as node:
        yield node.start()


@pytest.fixture
def changed(node):
    """Changes parameters of the node for one test."""
    before = {}

    def change(name, value, default):
        before[name] = default
        result = node.set_parameter(name, value)
        assert result.successful, result.reason

    yield change
    for name, default in before.items():
        assert node.set_parameter(name, default).successful
