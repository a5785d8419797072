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

"""The mark in the folder of the cache that tells running processes to forget what requests taught.

planning/forgetting.py leaves it for `timebill forget`. The worker looks at it, and so does a node that learns how long
a server takes.
"""
from __future__ import annotations

from pathlib import Path

MARK = 'forgotten'
STATES = 'state'  # folder of the kept states, below that of the cache


class Forgetting:
    """Notices when someone has called `forget` since it was made. One look costs a few microseconds."""

    def __init__(self, cache: Path):
        self._mark = cache / MARK
        self._seen = self._marked()

    def _marked(self) -> int | None:
        try:
            return self._mark.stat().st_mtime_ns
        except OSError:
            return None

    def asked(self) -> bool:
        """Return whether `forget` was called since the last time that this was asked."""
        before, self._seen = self._seen, self._marked()
        return self._seen not in (None, before)
