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

"""From an answer's tokens to its parts: reasoning, text, calls of tools."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from timebill_ros.codes import FinishReason
from timebill_ros.inference.chat_facts import ChatFacts
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.text import decode as decode_text
from timebill_ros.inference.tools.answer_calls import as_records, names_of, taken_apart
from timebill_ros.request import Request

if TYPE_CHECKING:
    from timebill_ros.inference.grammars.restricted_answer import RestrictedAnswer


class Ended(NamedTuple):
    """How generation ended, and what the client gets of it before its strategy is applied (overrun.settle).

    `added`: characters at the end of `text` that complete the form of an answer that was cut; None: it has none.
    `dropped`: items of it that had begun and are not in `text`.
    """

    reason: FinishReason
    text: str = ''
    added: int | None = None
    calls: tuple[dict[str, str], ...] = ()
    reasoning: str = ''
    dropped: int = 0


def ended(tokenizer, chat: ChatFacts, request: Request, tokens: list[int], reason: FinishReason, *,
          answer: RestrictedAnswer | None = None, thought: int = 0) -> Ended:
    """Take apart the `tokens` of an answer, the end of text not among them, that ended for `reason`.

    The first `thought` of them are a thinking section. `answer`: the form that the others follow.
    """
    reasoning, tokens = tokens[:thought], tokens[thought:]
    thoughts = chat.thinking.reasoning(_marked(tokenizer, reasoning)) if reasoning and chat.thinking else ''
    text, added, calls, dropped = '', None, (), 0
    if answer is not None:
        text, added, dropped = answer.ended(tokens, reason, request.on_cut)
    else:
        text = decode_text(tokenizer, tokens)
    if request.tools and chat.calls:
        # Markers of calls may be special tokens, which have no text otherwise.
        whole = text if answer is not None else _marked(tokenizer, tokens)
        text, found = taken_apart(whole if chat.calls.start(whole) < len(whole) else text, chat.calls,
                                  names_of(request.tools), reason)
        calls = tuple(as_records(found))
    if answer is None:
        text = text.lstrip() if thought else text
        text = StopStrings(tokenizer, request.sampling.stop).cut(text)
    return Ended(reason, text, added, calls, thoughts, dropped)


def _marked(tokenizer, tokens: list[int]) -> str:
    """Return the text of tokens with that of special tokens; half a character at its end is left out."""
    return tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False).rstrip('\ufffd')
