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

"""The examples as modules, and a node that does what the prompt's first word says."""
import importlib.util
import sys
from pathlib import Path

import pytest
from answering_node import AnsweringNode
from node_client import WAIT_S

from timebill_ros.client import TimebillClient

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'


@pytest.fixture
def load():
    """Return a function that loads an example by its name."""
    def load(name):
        spec = importlib.util.spec_from_file_location(f'example_{name}', EXAMPLES / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their annotations up there
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope='session')
def answering():
    with AnsweringNode() as node:
        yield node


@pytest.fixture(scope='session')
def client(answering):
    with TimebillClient(answering.program) as client:
        client.wait_until_active(WAIT_S)
        yield client
