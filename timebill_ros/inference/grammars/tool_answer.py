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

"""One answer that may call tools, while it is written and once it is cut."""
from __future__ import annotations

from timebill_ros.codes import FinishReason, OnCut
from timebill_ros.inference.grammars.completion import ByteMatcher, closed
from timebill_ros.inference.grammars.json_cuts import whole_characters
from timebill_ros.inference.grammars.restricted_answer import RestrictedAnswer, Whole
from timebill_ros.request import CUT


class ToolAnswer(RestrictedAnswer):
    """An answer whose form is a ToolForm."""

    def ended(self, tokens: list[int], reason: FinishReason, on_cut: OnCut) -> Whole:
        """Return an answer that ended for `reason` after `tokens`, calls included.

        With CLOSE, a call that was not complete gets a short end, once it is certain which tool it calls.
        """
        written = self.written(tokens)
        if reason in CUT and on_cut is OnCut.CLOSE and self._has_end:
            written = self._closed(written)
        return Whole(whole_characters(written).decode(errors='replace'), 0)

    def _closed(self, written: bytes) -> bytes:
        """Return `written`, the last call in it completed."""
        text, form = written.decode(errors='replace'), self.form
        found = form.format.read(text, form.schemas)
        if found.begun == len(text) or not self._is_certain(text[found.begun:], bool(found.calls)):
            return written
        start = len(text[:found.start].encode())
        completed = closed(ByteMatcher(self._byte_matcher), written[start:], is_json=True)
        return written if completed is None else written[:start] + completed.text

    def _is_certain(self, begun: str, follows: bool) -> bool:
        """Whether the beginning of a call tells which tool it calls; `follows`: other calls stand before it."""
        form = self.form
        before = form.format.between if follows else form.format.begin
        whole = [before + name + form.format.middle for name in form.schemas]
        return any(begun.startswith(head) for head in whole) or \
            len(begun) > len(before) and sum(head.startswith(begun) for head in whole) == 1
