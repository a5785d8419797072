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

"""Notices a chat template that writes earlier turns of a conversation anew, so that little of it can be reused."""
from __future__ import annotations

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)

SLACK_TOKENS = 32  # the end of a prompt may be written otherwise: where the answer begins now stands an answer
SHOWN_TOKENS = 12


class TurnsWatch:
    """Watches conversations that go on from one goal to the next; the log says once where one is written anew.

    A template does that where it writes the time of day, for instance, or leaves out earlier thinking.
    """

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._last: tuple[Sequence[dict[str, str]], list[int]] = ((), [])
        self._told = False

    def observe(self, messages: Sequence[dict[str, str]], ids: list[int], reused: int) -> None:
        """Take note of a goal's messages, and of the tokens that became of them, `reused` of which were known."""
        (before, before_ids), self._last = self._last, (messages, ids)
        if self._told or not before or len(messages) <= len(before) or messages[:len(before)] != before:
            return
        common = next((i for i, (a, b) in enumerate(zip(before_ids, ids, strict=False)) if a != b),
                      min(len(before_ids), len(ids)))
        if common >= len(before_ids) - SLACK_TOKENS:
            return
        self._told = True
        changed = self._tokenizer.decode(ids[common:common + SHOWN_TOKENS])
        log.warning('%d of %d tokens of a conversation that went on were reused, because the chat template writes its '
                    'earlier messages anew: they differ from token %d on, now %r', reused, len(ids), common, changed)
