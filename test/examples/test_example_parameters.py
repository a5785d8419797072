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

"""Parameters that the examples cannot use are a sentence and a failure, without a traceback."""
import subprocess
import sys

import pytest
from scripted_model import ROOT

ABC = (['-p', 'budget_s:=abc'], "budget_s must be a number of seconds, got 'abc'")


@pytest.mark.parametrize(('name', 'parameters', 'told'), [
    ('tools', *ABC), ('planner', *ABC), ('typed_planner', *ABC),
    ('tools', ['-p', "server:='no name'"], "server 'no name' is no name of a node")])
def test_a_parameter_that_cannot_be_used(name, parameters, told):
    done = subprocess.run([sys.executable, f'examples/{name}.py', '--ros-args', *parameters], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and told in said and 'Traceback' not in said, said
