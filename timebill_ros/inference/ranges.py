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

"""Names for what a request does, on the time line of a GPU profiler. Needs no torch: here nothing is marked."""
from __future__ import annotations

import contextlib


class Ranges:
    """Marks nothing and costs nothing. nvtx.py has the one that marks."""

    def request(self) -> contextlib.AbstractContextManager:
        """Mark a request from its begin to its end, with the phases inside."""
        return contextlib.nullcontext()

    def phase(self, name: str) -> None:
        """End the phase of the request that runs, and begin the next one."""

    def around(self, name: str) -> contextlib.AbstractContextManager:
        """Mark what is done inside, on a thread of its own."""
        return contextlib.nullcontext()

    def stepping(self, model):
        """Return what decodes in the place of `model` (see decode.decode): the model itself, where no step is marked.

        So the token loop has nothing to ask per token.
        """
        return model
