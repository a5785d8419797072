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

"""A status is bad news where a whole answer will not come in time, and only there."""
import pytest

from timebill_ros.asking.outlook import bad_news
from timebill_ros.codes import ErrorCode, Phase, Verdict
from timebill_ros.msg import RequestStatus


@pytest.mark.parametrize('phase', [Phase.QUEUED, Phase.PREFILL, Phase.DECODE])
@pytest.mark.parametrize('verdict', Verdict)
def test_a_verdict_is_bad_news_where_it_counts_as_hopeless(phase, verdict):
    status = RequestStatus(phase=int(phase), verdict=int(verdict), slack_s=-3.0, predicted_tokens=900)
    assert bool(bad_news(status)) is (verdict is Verdict.INFEASIBLE)
    assert bool(bad_news(status, hopeless=(Verdict.AT_RISK,))) is (verdict is Verdict.AT_RISK)
    if verdict is Verdict.INFEASIBLE:
        assert bad_news(status) == 'the verdict is INFEASIBLE: 900 tokens are expected, with a slack of -3.00 s'


def test_a_passed_deadline_is_bad_news():
    assert 'deadline has passed' in bad_news(RequestStatus(phase=int(Phase.DECODE), overrun=True))


@pytest.mark.parametrize('phase', [Phase.DONE, Phase.SKIPPED])
def test_an_end_is_bad_news_where_it_has_a_code(phase):
    ended = RequestStatus(phase=int(phase), verdict=int(Verdict.INFEASIBLE), overrun=True)
    assert bad_news(ended) == ''  # it succeeded all the same
    ended.error_code = int(ErrorCode.WORKER_LOST)
    assert bad_news(ended) == 'the goal has ended with WORKER_LOST'
