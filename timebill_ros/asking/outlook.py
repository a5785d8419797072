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

"""What a status of a goal says about its answer: whether a planner should still wait."""
from __future__ import annotations

from collections.abc import Collection

from timebill_ros.asking.failures import code_name
from timebill_ros.codes import Verdict
from timebill_ros.msg import RequestStatus

OVER = (RequestStatus.PHASE_DONE, RequestStatus.PHASE_SKIPPED)


def bad_news(status: RequestStatus, hopeless: Collection[int] = (Verdict.INFEASIBLE,)) -> str:
    """Return why a whole answer will not come by the deadline, as `status` says; empty while it may come.

    `hopeless`: the verdicts that count as a no. With AT_RISK among them, a planner waits for promises alone.
    """
    if status.phase in OVER:  # where it succeeded, the answer is on its way
        return f'the goal has ended with {code_name(status.error_code)}' if status.error_code else ''
    if status.overrun:
        return 'the deadline has passed before the answer was complete'
    if status.verdict in hopeless:
        return (f'the verdict is {Verdict(status.verdict).name}: {status.predicted_tokens} tokens are expected, '
                f'with a slack of {status.slack_s:.2f} s')
    return ''
