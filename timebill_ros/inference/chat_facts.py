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

"""What a model's chat template can do besides turns of text. Needs neither torch nor transformers."""
from __future__ import annotations

from dataclasses import dataclass

from timebill_ros.inference import thinking_section
from timebill_ros.inference.thinking_section import ThinkingSection
from timebill_ros.inference.tools import call_format
from timebill_ros.inference.tools.call_format import CallFormat


@dataclass(frozen=True)
class ChatFacts:
    """What was found in a template.

    shows_tools:  it writes tools into the prompt
    calls:        how it writes calls of tools; None: in no way that is known here
    thinking:     its thinking section; None: it has none
    """

    shows_tools: bool = False
    calls: CallFormat | None = None
    thinking: ThinkingSection | None = None


NO_CHAT = ChatFacts()


def found_in(tokenizer) -> ChatFacts:
    """Return what the chat template of `tokenizer` can do; this renders a few short conversations."""
    if not getattr(tokenizer, 'chat_template', None):
        return NO_CHAT
    return ChatFacts(call_format.shows_tools(tokenizer), call_format.found_in(tokenizer),
                     thinking_section.found_in(tokenizer))
