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

"""The thinking section of a chat template: found from what the template writes, whatever the model is called.

A template shows it in one of three ways: it writes the section out empty where a keyword turns thinking off (Qwen3,
SmolLM3), it writes a former answer's reasoning between two markers, or it opens the section itself where an answer is
to begin (DeepSeek R1 and its like).
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from timebill_ros.codes import ErrorCode, GoalError, Thinking
from timebill_ros.request import Request

# What templates call their switch, and the reasoning of a former answer.
SWITCHES = ('enable_thinking', 'thinking')
FIELDS = ('reasoning_content', 'reasoning', 'thinking')
_MARKER = r'(<[^<>\s]{2,40}>|\[[^\[\]\s]{2,40}\])'
_EMPTY = re.compile(_MARKER + r'(\s*)' + _MARKER + r'(\s*)\Z')
_LAST = re.compile(_MARKER + r'(\s*)\Z')
_FIRST = re.compile(r'(\s*)' + _MARKER + r'(\s*)')
_SAID, _THOUGHT = '\u25c6said\u25c6', '\u25c6thought\u25c6'


@dataclass(frozen=True)
class ThinkingSection:
    """How a section is written. `opening` and `closing` are markers with the white space around them.

    switch:   keyword of the template that turns thinking on or off; empty: there is none
    default:  whether an answer has a section where nobody asks for one or for none
    """

    opening: str
    closing: str
    switch: str
    default: bool

    @property
    def open_marker(self) -> str:
        return self.opening.strip()

    @property
    def close_marker(self) -> str:
        return self.closing.strip()

    def keywords(self, thinking: Thinking) -> dict[str, bool]:
        """Return what the template is to be told; nothing where it is to do as it does by itself."""
        return {} if thinking is Thinking.DEFAULT or not self.switch else {self.switch: thinking is Thinking.ON}

    def is_open(self, prompt: str) -> bool:
        """Whether the answer to a rendered prompt begins inside of a section."""
        return prompt.rstrip().endswith(self.open_marker)

    def begun(self, prompt: str, thinking: Thinking) -> str:
        """Return a rendered prompt with the section that its answer is to begin with, or without one."""
        thinks = self.default if thinking is Thinking.DEFAULT else thinking is Thinking.ON
        is_over = prompt.rstrip().endswith(self.close_marker) and thinking is not Thinking.ON
        if is_over or thinks == self.is_open(prompt):
            return prompt
        return prompt + (self.opening if thinks else self.closing)

    def reasoning(self, text: str) -> str:
        """Return what a section holds, of the text that was written in it."""
        return text.partition(self.close_marker)[0].removeprefix(self.open_marker).strip()


def refuse_thinking(request: Request, section: ThinkingSection | None, name: str, *, begun: bool = False) -> None:
    """Raise GoalError where a goal asks for a section that its answer cannot have.

    `name`: of the model; `begun`: whether the last message has begun the answer.
    """
    if request.thinking is not Thinking.ON:
        return
    why = 'a prompt goes through no chat template: send messages' if not request.messages else \
        f'the chat template of model {name} has no thinking section' if section is None else \
        'a section comes before an answer, and the last message has begun the answer' if begun else ''
    if why:
        raise GoalError(ErrorCode.INVALID_GOAL, f'thinking is ON, but {why}')


def found_in(tokenizer) -> ThinkingSection | None:
    """Return the thinking section that the chat template of `tokenizer` knows; None: none was found."""
    template = getattr(tokenizer, 'chat_template', None)
    if not template:
        return None
    by_itself = _rendered(tokenizer)
    if by_itself is None:
        return None
    for switch in SWITCHES:
        on, off = (_rendered(tokenizer, **{switch: value}) for value in (True, False))
        if None not in (on, off) and (found := _switched(on, off)):
            return ThinkingSection(*found, switch, by_itself == on)
    found = _remembered(tokenizer, by_itself) or _opened(tokenizer, by_itself, str(template))
    return ThinkingSection(*found, '', _ends_with(by_itself, found[0])) if found else None


def _ends_with(prompt: str, opening: str) -> bool:
    return prompt.rstrip().endswith(opening.strip())


def _rendered(tokenizer, answer: dict | None = None, **keywords) -> str | None:
    """Return a conversation that ends with `answer`, None: that asks for one. None where the template refuses it."""
    messages = [{'role': 'user', 'content': 'go'}]
    try:
        return tokenizer.apply_chat_template(messages if answer is None else [*messages, answer], tokenize=False,
                                             add_generation_prompt=answer is None, **keywords)
    except Exception:  # templates raise jinja errors of their own
        return None


def _switched(on: str, off: str) -> tuple[str, str] | None:
    """Return (opening, closing) of a template that writes only the end of a section where thinking is off, or all."""
    opened, closed = _LAST.search(on), _LAST.search(off)
    if opened and closed and opened[1] != closed[1] and on[:opened.start()] == off[:closed.start()]:
        return opened[0], closed[0]
    empty = _EMPTY.search(off)
    if empty is None or on.rstrip().endswith(empty[3]):
        return None
    space = empty[2]
    half = (len(space) + 1) // 2
    return empty[1] + space[:half], space[half:] + empty[3] + empty[4]


def _remembered(tokenizer, by_itself: str) -> tuple[str, str] | None:
    """Return (opening, closing) of a template that writes the reasoning of an answer between two markers.

    They have to follow what an answer begins behind.
    """
    for field in FIELDS:
        text = _rendered(tokenizer, {'role': 'assistant', 'content': _SAID, field: _THOUGHT}) or ''
        before, _, behind = text.partition(_THOUGHT)
        opened, closed = _LAST.search(before), _FIRST.match(behind)
        follows = opened and by_itself.rstrip() in (before.rstrip(), before[:opened.start()].rstrip())
        if follows and closed and opened[1] != closed[2]:
            return opened[0], closed[0]
    return None


def _opened(tokenizer, by_itself: str, template: str) -> tuple[str, str] | None:
    """Return (opening, closing) of a template that opens the section itself where an answer is to begin."""
    header = (_rendered(tokenizer, {'role': 'assistant', 'content': _SAID}) or '').partition(_SAID)[0]
    tail = by_itself[len(header):] if header and by_itself.startswith(header) else ''
    opened = _LAST.fullmatch(tail.lstrip())
    if not opened:
        return None
    close = opened[1][0] + '/' + opened[1][1:]
    if close in template or close in tokenizer.get_vocab():
        return opened[0], f'{opened[2]}{close}\n\n'
    return None
