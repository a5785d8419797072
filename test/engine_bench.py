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

"""An engine on a model that answers a script, with a clock that its work moves on."""
from mock_model import TIMES, FakeClock, MockModel, MockPredictions

from timebill_ros.codes import ErrorCode
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Request

ANSWER = b'abcdefghijklmnopqrstuvwxyz0123'  # 30 tokens, then the end of text
N_X = 1000
GENEROUS = 10.0  # seconds, far more than anything here takes


class Bench:
    """An engine on mocks, and what one run of it did."""

    def __init__(self, *, predictions=None, answer=ANSWER, ends=True, slowness=1.0, factor=2.0, **hooks):
        self.clock = FakeClock()
        self.model = MockModel(self.clock, answer, ends=ends, slowness=slowness, **hooks)
        self.predictions = MockPredictions(self.clock, **predictions) if predictions is not None else None
        self.engine = Engine(self.model, self.predictions, TIMES, Tracker('fixed', k=factor), prefill_chunk_tokens=100,
                             clock=self.clock)

    def request(self, budget_s=GENEROUS, *, queue_s=0.0, n_x=N_X, **fields):
        release = self.clock.now - queue_s
        fields.setdefault('prompt', 'x' * n_x)
        fields.setdefault('delivery_margin_s', 0.0)
        return Request('id', release, release + budget_s, **fields)

    def run(self, budget_s=GENEROUS, **fields):
        request = self.request(budget_s, **fields)
        self.model.calls, self.phases, self.plans = [], [], []
        self.control = Control(Deadline(request.deadline_s, self.clock), request.delivery_margin_s,
                               request.max_overrun_s, on_phase=self.phases.append,
                               on_plan=lambda plan, timing: self.plans.append(plan))
        outcome = self.engine.run(request, self.control)
        self.lateness_s = self.clock.now - request.deadline_s
        assert (outcome.error_code is ErrorCode.NONE) == (outcome.error_msg == '')
        assert outcome.text or outcome.tool_calls or outcome.error_code is not ErrorCode.NONE, \
            'an empty answer that reads as success'
        return outcome
