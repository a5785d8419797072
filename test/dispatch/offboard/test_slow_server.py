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

"""A server that is only slow is not taken for one that fails."""
from timebill_ros.codes import Verdict
from timebill_ros.dispatch.offboard.breaker import FAILURES
from timebill_ros.dispatch.offboard.second_tier import ASKED


def test_a_pace_is_learned_from_answers_that_are_not_waited_for(harness):
    jobs = []
    for _ in range(FAILURES + 1):
        jobs.append(harness.ask(5.0, max_new_tokens=100))
        if jobs[-1].is_contested:
            for n in (1, 2, 3):
                harness.now += 1.0
                harness.server_says(jobs[-1], 'word ', n)
        harness.on_board_ends(jobs[-1], 'on board')
        harness.advance(5.0)
    assert harness.dispatcher.tier.state == ASKED
    assert [job.timing.offboard_verdict for job in jobs] == [Verdict.UNKNOWN] + [Verdict.INFEASIBLE] * FAILURES
    assert all(job.outcome.text == 'on board' for job in jobs)
