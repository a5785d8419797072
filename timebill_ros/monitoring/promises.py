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

"""What became of the promise of a goal that is over. The codes are those of results and of the status topic."""
from __future__ import annotations

from timebill_ros.codes import ErrorCode, FinishReason, Verdict

PROMISES = (Verdict.FITS, Verdict.FITS_WITH_EVICTION)
NATURAL = (FinishReason.EOS, FinishReason.STOP, FinishReason.LENGTH)
ENDED_BY_OTHERS = (ErrorCode.CANCELED, ErrorCode.INACTIVE)


def is_kept(verdict: int, finish_reason: int, error_code: int, tardiness_s: float) -> bool | None:
    """Return whether the promise was kept; None where there was none, or none that counts.

    A promise is kept by a natural end that came in time. A deadline that cut the text, or a cap, is a miss. A client
    that canceled its goal broke no promise of the node's.
    """
    if verdict not in PROMISES or error_code in ENDED_BY_OTHERS:
        return None
    return finish_reason in NATURAL and not tardiness_s > 0
