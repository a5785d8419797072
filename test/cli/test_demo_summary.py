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

"""What the demonstration says at its end."""
from test_demo_goals import make_row

from timebill_ros.cli.demo_summary import next_step, sentences


def test_three_sentences_say_what_was_seen():
    rows = [make_row(), make_row(kind='half', score=0.25, finish_reason='DEADLINE', verdict='AT_RISK'),
            make_row(kind='generous', score=0.5, eviction_ratio=0.4), make_row(node_tardiness_s=0.1, kind='x'),
            make_row(kind='hopeless', error_code='INFEASIBLE', generated_tokens=0, verdict='INFEASIBLE')]
    first, second, third = sentences(rows)
    assert first.startswith('Of 5 goals 1 had a result after the deadline: 1 was cut at it, 1 was refused')
    assert '75% right' in second and 'the whole 25%; 1 goal gave up' in second
    assert '3 were promised, and 1 of these promises broken' in third


def test_nothing_is_claimed_where_nothing_was_seen():
    first, second, third = sentences([make_row(kind='other')])
    assert 'none had a result after the deadline: 0 were cut' in first and '- right' in second


def test_the_next_command_is_told_and_that_a_robot_uses_a_larger_model():
    real = next_step('smollm2', is_real=True)
    assert 'a robot uses a larger model' in real and '-p model:=' in real and 'timebill ask' in real
    assert 'get-model smollm2' in next_step('embedded', is_real=False)
