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

"""What became of promises, by the codes of the status topic: the same as of results (test/cli/test_ending.py)."""
import math

import pytest

from timebill_ros.codes import ErrorCode, FinishReason, Verdict
from timebill_ros.monitoring.promises import is_kept


@pytest.mark.parametrize('verdict', Verdict)
@pytest.mark.parametrize('finish', FinishReason)
def test_a_promise_is_kept_by_a_natural_end_in_time(verdict, finish):
    kept = is_kept(int(verdict), int(finish), 0, 0.0)
    assert kept is (finish.is_natural if verdict.is_promise else None)


@pytest.mark.parametrize(('error', 'tardiness_s', 'kept'), [
    (ErrorCode.NONE, 0.1, False), (ErrorCode.NONE, math.nan, True), (ErrorCode.CANCELED, 0.0, None),
    (ErrorCode.INACTIVE, 0.0, None)])
def test_what_is_late_is_missed_and_what_others_ended_does_not_count(error, tardiness_s, kept):
    assert is_kept(Verdict.FITS, FinishReason.EOS, error, tardiness_s) is kept
