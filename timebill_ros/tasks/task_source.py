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

"""Where a bench takes its tasks from: a file of real text, or the site log of the embedded model."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from timebill_ros.tasks import site_log, text_tasks
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.site_log_scores import scored
from timebill_ros.tasks.text_tasks import Asking

SITE_LOG_TASKS = 600
SITE_LOG_TOKENS = 512  # the longest answer, unless the user says otherwise


@dataclass(frozen=True)
class TaskSource:
    """Tasks that can be loaded again, by another process too.

    `path`: a file as in text_tasks.py; None: the site log's test tasks. `limit`: so many at most, 0: all of a file, or
    SITE_LOG_TASKS. `asking`: see text_tasks.py.
    """

    path: Path | None = None
    limit: int = 0
    asking: Asking = field(default_factory=Asking)

    def __post_init__(self):
        if self.limit < 0:
            raise ValueError(f'the limit must be 0 (all tasks) or more, got {self.limit}')

    @property
    def name(self) -> str:
        """A name for results."""
        return self.path.name if self.path else 'site log, test split'

    def load(self) -> list[ScoredTask]:
        """Return the tasks in their order. ValueError or OSError with a sentence for a file that cannot be used."""
        if self.path:
            return text_tasks.load(self.path, limit=self.limit, asking=self.asking)
        longest = self.asking.max_new_tokens or SITE_LOG_TOKENS
        return [scored(task, longest) for task in site_log.tasks('test', self.limit or SITE_LOG_TASKS)]
