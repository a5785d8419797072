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

"""Which verdict of a request holds the promise."""
from monitor_messages import status

from timebill_ros.codes import Phase, Verdict
from timebill_ros.monitoring.first_verdicts import REMEMBERED, FirstVerdicts


def test_the_first_plan_holds_and_what_was_told_while_waiting_does_not():
    verdicts = FirstVerdicts()
    told = [(Phase.QUEUED, Verdict.AT_RISK), (Phase.PREFILL, Verdict.UNKNOWN), (Phase.PREFILL, Verdict.FITS),
            (Phase.DECODE, Verdict.AT_RISK), (Phase.DONE, Verdict.AT_RISK)]
    assert [verdicts.of(status('a', phase, 0.0, verdict=verdict)) for phase, verdict in told] == [
        Verdict.AT_RISK, Verdict.UNKNOWN, Verdict.FITS, Verdict.FITS, Verdict.FITS]
    assert verdicts.of(status('a', Phase.QUEUED, 0.0)) == Verdict.UNKNOWN  # another goal of that name


def test_requests_whose_end_is_never_heard_are_forgotten():
    verdicts = FirstVerdicts()
    for number in range(REMEMBERED + 1):
        verdicts.of(status(str(number), Phase.DECODE, 0.0, verdict=Verdict.FITS))
    latest = [verdicts.of(status(name, Phase.DONE, 1.0, verdict=Verdict.AT_RISK)) for name in ('0', '1')]
    assert latest == [Verdict.AT_RISK, Verdict.FITS]
