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

"""What counts as promised and as missed."""
import pytest

from timebill_ros.codes import ErrorCode, FinishReason, Verdict


@pytest.mark.parametrize(('verdict', 'end', 'promised', 'missed'), [
    (Verdict.FITS, {}, 1, 0),
    (Verdict.FITS_WITH_EVICTION, {'reason': FinishReason.LENGTH}, 1, 0),
    (Verdict.FITS, {'reason': FinishReason.CAPPED}, 1, 1),
    (Verdict.FITS, {'reason': FinishReason.DEADLINE}, 1, 1),
    (Verdict.FITS, {'reason': FinishReason.CANCELED, 'error_code': ErrorCode.CANCELED}, 0, 0),
    (Verdict.FITS, None, 1, 1),  # the worker says nothing more
    (Verdict.AT_RISK, {'reason': FinishReason.DEADLINE}, 0, 0),
    (Verdict.INFEASIBLE, None, 0, 0),
])
def test_promises_are_counted(harness, verdict, end, promised, missed):
    job = harness.submit()
    harness.worker.plan(job, verdict)
    if end is not None:
        harness.worker.done(job, verdict=verdict, **end)
    harness.advance(20.0)
    assert (harness.dispatcher.counts['promised'], harness.dispatcher.counts['missed']) == (promised, missed)
    assert harness.dispatcher.counts['late'] == (end is None)  # this clock jumped over the deadline
