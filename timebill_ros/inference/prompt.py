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

"""From a goal's prompt or messages to token ids."""
from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference import chat_facts
from timebill_ros.inference.chat_options import system_into_user, systems_joined, takes_system
from timebill_ros.inference.conventions import check_prompt
from timebill_ros.inference.prompt_length import WHOLE_CHARACTERS, PromptLength
from timebill_ros.inference.special_tokens import SpecialTokens
from timebill_ros.inference.thinking_section import refuse_thinking
from timebill_ros.inference.tools.conversation import for_template, tools_for_template
from timebill_ros.request import Request

log = logging.getLogger(__name__)

LOOK_S = 0.02  # how often a goal looks whether to stop while a long text is tokenized


class PromptEncoder:
    """Renders and tokenizes prompts for one model. `max_context`: tokens of prompt and answer together, at most.

    A tokenizer cannot be interrupted. So a long text is tokenized on a thread of its own, and a goal that is stopped
    leaves it there; the next goal's text waits for it, because a tokenizer serves one text at a time.
    """

    def __init__(self, name: str, tokenizer, max_context: int):
        self._name, self._tokenizer, self._max_context = name, tokenizer, max_context
        self._special_tokens = SpecialTokens(tokenizer)
        self.chat = chat_facts.found_in(tokenizer)
        has_template = bool(getattr(tokenizer, 'chat_template', None))
        self._for_roles: Callable[[list[dict]], list[dict]] = list  # messages as the template's roles take them
        if has_template and not takes_system(tokenizer):
            self._for_roles = system_into_user
            log.info('the chat template of %s has no system role: the text of a system message goes in front of the '
                     'next user message', name)
        elif has_template and not takes_system(tokenizer, 2):
            self._for_roles = systems_joined
            log.info('the chat template of %s takes one system message: several in a row become one', name)
        self._length = PromptLength(tokenizer, max_context)
        self._executor = ThreadPoolExecutor(1, 'tokenizer')
        self._latest: Future[list[int]] = self._executor.submit(list)  # the thread starts now, not in a goal
        self._latest.result()

    def render(self, request: Request) -> str:
        """Return the text that the model sees: the raw prompt, or the messages through the model's chat template.

        Special tokens that a message's content spells out stay text. Where the template has no system role, a system
        message becomes the beginning of the next user message; where it takes but one in a row, several become one.
        A last message of the role assistant is the beginning of the answer: the text ends with it. Another answer
        begins with a thinking section where the goal, or the template by itself, says so. GoalError where there is no
        template or the template refuses the messages.
        """
        section = self.chat.thinking
        if not request.messages:
            refuse_thinking(request, section, self._name)
            return request.prompt
        if not getattr(self._tokenizer, 'chat_template', None):
            raise GoalError(ErrorCode.INVALID_GOAL, f'model {self._name} has no chat template; send prompt instead')
        quoted: list[str] = []

        def quote(text: str) -> str:
            return self._special_tokens.quote(text, quoted)

        tools = tools_for_template(request, self.chat, self._name, quote)
        messages = self._for_roles(for_template(request.messages, quote))
        # The model goes on with an answer that was begun. A blank one begins nothing, and some templates trim it away.
        if messages[-1]['role'] == 'assistant' and not messages[-1]['content'].strip():
            messages.pop()
        begun = bool(messages) and messages[-1]['role'] == 'assistant'
        refuse_thinking(request, section, self._name, begun=begun)
        keywords = section.keywords(request.thinking) if section else {}
        if tools:
            keywords['tools'] = tools
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not begun,
                                                       continue_final_message=begun, **keywords)
        except Exception as error:  # templates raise jinja errors of their own for roles that they refuse
            why = self._special_tokens.restore(str(error), quoted)[:200]
            raise GoalError(ErrorCode.INVALID_GOAL, f'the chat template refuses the messages: {why}') from error
        if section and not begun:
            text = section.begun(text, request.thinking)
        return self._special_tokens.rendered(text, quoted)

    def tokenize(self, text: str, *, is_chat: bool, should_stop: Callable[[], bool] = lambda: False
                 ) -> list[int] | None:
        """Return the token ids of a rendered prompt, or None where `should_stop` said so while a long one was read.

        GoalError where there are none or too many. `is_chat`: a chat template has already written the special tokens
        into `text`.
        """
        if not self._await_thread(should_stop) or not self._length.check(text, should_stop):
            return None
        encode = self._special_tokens.encode if is_chat else self._raw
        if len(text) <= WHOLE_CHARACTERS:
            ids = encode(text)
        else:
            self._latest = self._executor.submit(encode, text)
            if not self._await_thread(should_stop):
                return None
            ids = self._latest.result()
        check_prompt(ids, self._max_context)
        return ids

    def _await_thread(self, should_stop: Callable[[], bool]) -> bool:
        """Return True once the thread has nothing to tokenize, False where `should_stop` said so before."""
        while not wait([self._latest], LOOK_S).done:
            if should_stop():
                return False
        return True

    def _raw(self, text: str) -> list[int]:
        """Return the token ids of a raw prompt, which begins with one BOS at the most that the tokenizer adds."""
        ids = self._tokenizer(text, verbose=False)['input_ids']
        bos = getattr(self._tokenizer, 'bos_token', None)
        doubled = bos and text.startswith(bos) and ids[:2] == [self._tokenizer.bos_token_id] * 2
        # A prompt that itself begins with two keeps them: then the tokenizer's own is the third.
        return ids[1:] if doubled else ids
