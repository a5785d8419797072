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

"""A dispatcher with both tiers as they are: the scripted worker, and the process that calls a server."""
import collections
import time

from timebill_ros import settings
from timebill_ros.dispatch.dispatcher import Dispatcher
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.worker_process import WorkerProcess
from timebill_ros.request import Request

WAIT_S = 60.0
MARGIN_S = 0.4  # this machine may be busy
ON_BOARD = 'I am on board and I am small.'
SCRIPT = f"""format: 1
times: {{prompt_s: 0.01, token_s: 0.005}}
answers: [{{text: '{ON_BOARD}'}}]
"""


class TwoTiers:
    """A dispatcher with both tiers, and the goals that it was given."""

    def __init__(self, folder, url, **parameters):
        (folder / 'script.yaml').write_text(SCRIPT)
        values = settings.check({'worker': 'scripted', 'script': str(folder / 'script.yaml'), 'cache_dir': str(folder),
                                 'offboard_url': url, 'offboard_model': 'large' if url else '', 'offboard_quality': 2.0,
                                 **parameters})
        self.ends = collections.Counter()
        self.dispatcher = Dispatcher(lambda on_event: WorkerProcess('', on_event), values, self._on_change)
        self.dispatcher.configure().result(WAIT_S)

    def _on_change(self, job):
        if job.outcome is not None:
            self.ends[job.request.request_id] += 1

    def ask(self, prompt, budget_s=3.0, **request):
        now = time.monotonic()
        job = Job(Request(f'goal {now}', now, now + budget_s, prompt=prompt,
                          **{'allow_offboard': True, 'delivery_margin_s': MARGIN_S, **request}))
        self.dispatcher.submit(job)
        return job
