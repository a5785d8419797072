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

"""What is known of the worker: the latest that it said."""
from timebill_ros.dispatch.start_watch import stage_of
from timebill_ros.dispatch.worker_facts import WorkerFacts

PROGRESS = {'event': 'progress', 'part': 1, 'of': 6, 'what': 'loading', 'for_s': 5.0, 'left_s': None}


def test_nothing_is_known_before_the_worker_speaks():
    assert WorkerFacts() == WorkerFacts('', '', {}, {'timing_factor': 1.0, 'unusual': False})


def test_it_learns_what_messages_say():
    facts = WorkerFacts()
    facts.learn(PROGRESS)
    assert facts.stage == stage_of(PROGRESS)
    facts.learn({'event': 'ready', 'device': 'Abacus', 'sampling': {'temperature': 0.6},
                 'tracked': {'timing_factor': 2.0}})
    assert facts == WorkerFacts('Abacus', '', {'temperature': 0.6}, {'timing_factor': 2.0})
    facts.learn({'event': 'text', 'delta': 'a'})
    assert (facts.device, facts.tracked) == ('Abacus', {'timing_factor': 2.0})
    facts.learn({'event': 'done', 'tracked': {'timing_factor': 3.0}})
    facts.learn({'event': 'lost', 'reason': 'signal SIGKILL'})
    assert (facts.stage, facts.tracked) == ('', {'timing_factor': 3.0})


def test_the_state_of_the_device_stays_until_it_is_read_again():
    facts = WorkerFacts()
    facts.learn({'event': 'pong', 'device_state': {'memory_used': 5}, 'read_s': 7.0})
    facts.learn({'event': 'learned'})
    assert (facts.device_state, facts.device_state_s) == ({'memory_used': 5}, 7.0)
