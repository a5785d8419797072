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

"""What a goal has given, as OpenAI's objects: whole answers, and the pieces of a stream.

OpenAI's clients know few ways to end: `finish_reason` is stop, length or tool_calls. What really became of the goal is
in the extra field `timebill`, and its times, in seconds, in extra fields of `usage`.
"""
from __future__ import annotations

import json
import math
import time

from timebill_ros.asking.pending_goal import Answer
from timebill_ros.codes import ErrorCode, FinishReason, Verdict, name_of
from timebill_ros.door.fields import Question
from timebill_ros.door.refusal import of_result
from timebill_ros.monitoring.ending import as_json
from timebill_ros.msg import RequestStatus

_CUT = {FinishReason.LENGTH, FinishReason.CAPPED, FinishReason.DEADLINE}
_TOLD = ('error', 'error_code', 'error_msg', 'finish_reason', 'verdict', 'promise', 'generated_characters',
         'dropped_items', 'accepted_s', 'received_s', 'timing')
_PLANNED = ('slack_s', 'wcet_s', 'eviction_ratio', 'predicted_tokens', 'pessimistic_tokens')


def as_text(value: dict) -> str:
    """Return compact JSON in ASCII: some clients take U+0085 and U+2028 for the end of a line of a stream."""
    return json.dumps(value, separators=(',', ':'))


def deadline_facts(question: Question) -> dict:
    """Return what `timebill` says of a request before its goal has an end."""
    return {'deadline_ms': round(question.deadline_s * 1000, 3),
            'deadline_from': 'default' if question.is_default_deadline else 'request', 'ignored': question.ignored}


def plan_facts(question: Question, status: RequestStatus) -> dict:
    """Return what `timebill` says in the first piece of a stream, as soon as there is a plan."""
    plan = {name: getattr(status, name) for name in _PLANNED}
    return {**deadline_facts(question), 'verdict': name_of(Verdict, status.verdict),
            **{name: _known(value) for name, value in plan.items()}}


def end_facts(question: Question, answer: Answer) -> dict:
    """Return what `timebill` says at the end."""
    row = as_json(answer.result, answer.accepted_s, answer.received_s, question.deadline_s)
    return {**deadline_facts(question), **{name: row[name] for name in _TOLD}}


def check(question: Question, answer: Answer) -> None:
    """Raise the Refusal that tells of a goal that failed; `timebill` in it holds what text there is."""
    result, more = answer.result, ''
    if result.error_code == ErrorCode.INFEASIBLE:
        more = (f'; of the deadline of {question.deadline_s * 1000:g} ms the goal had '
                f'{question.budget_s * 1000:.1f} ms, because the way through HTTP takes time too')
    if result.error_code:
        raise of_result(result, {**end_facts(question, answer), 'text': result.text}, more)


def usage(result) -> dict:
    """Return the tokens of an answer, with the times of its steps in seconds, null where unknown."""
    timing = result.timing
    times = {'queue_time': timing.queue_s, 'prompt_time': timing.prefill_s, 'completion_time': timing.decode_s,
             'total_time': timing.response_time_s}
    return {'prompt_tokens': timing.prompt_tokens, 'completion_tokens': timing.generated_tokens,
            'total_tokens': timing.prompt_tokens + timing.generated_tokens,
            'prompt_tokens_details': {'cached_tokens': timing.reused_tokens},
            'completion_tokens_details': {'reasoning_tokens': timing.reasoning_tokens},
            **{name: _known(seconds) for name, seconds in times.items()}}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has neither NaN nor infinity


def finish_reason(result) -> str:
    """Return the end of an answer in OpenAI's terms; an answer that was cut is "length", whatever cut it."""
    if result.finish_reason in _CUT:
        return 'length'
    return 'tool_calls' if result.tool_calls else 'stop'


def tool_calls(result) -> list[dict]:
    """Return the tools that an answer calls."""
    return [{'id': call.id, 'type': 'function', 'function': {'name': call.name, 'arguments': call.arguments}}
            for call in result.tool_calls]


class Writer:
    """Makes the objects of one answer, which all have the same id. `model`: the name of the model."""

    def __init__(self, question: Question, request_id: str, model: str):
        self._question = question
        if question.is_chat:
            kind, self._whole, self._piece = 'chatcmpl', 'chat.completion', 'chat.completion.chunk'
        else:
            kind, self._whole, self._piece = 'cmpl', 'text_completion', 'text_completion'
        self._head = {'id': f'{kind}-{request_id}', 'created': int(time.time()), 'model': model}

    def whole(self, answer: Answer) -> dict:
        """Return the answer of a request that is not streamed."""
        result = answer.result
        choice = {'index': 0, 'finish_reason': finish_reason(result), 'logprobs': None}
        if self._question.is_chat:
            calls = tool_calls(result)
            message = {'role': 'assistant', 'content': result.text if result.text or not calls else None}
            if calls:
                message['tool_calls'] = calls
            if result.reasoning:
                message['reasoning_content'] = result.reasoning
            choice['message'] = message
        else:
            choice['text'] = result.text
        return {**self._head, 'object': self._whole, 'choices': [choice], 'usage': usage(result),
                'timebill': end_facts(self._question, answer)}

    def first(self, status: RequestStatus | None) -> dict:
        """Return the piece that begins a stream, with the plan where there is one."""
        facts = plan_facts(self._question, status) if status else deadline_facts(self._question)
        return self._with({'role': 'assistant', 'content': ''}, timebill=facts)

    def plan(self, status: RequestStatus) -> dict:
        """Return the piece that tells a plan that came after the first text: the two are different topics."""
        return self._with({}, timebill=plan_facts(self._question, status))

    def text(self, text: str) -> dict:
        return self._with({'content': text})

    def reasoning(self, text: str) -> dict:
        return self._with({'reasoning_content': text})

    def calls(self, result) -> dict:
        """Return the piece that holds the calls of tools, each of them whole."""
        return self._with({'tool_calls': [{'index': index, **call} for index, call in enumerate(tool_calls(result))]})

    def last(self, answer: Answer) -> dict:
        """Return the piece that ends a stream: how it ended, and the truth."""
        return self._with({}, finish_reason(answer.result), timebill=end_facts(self._question, answer))

    def spent(self, answer: Answer) -> dict:
        """Return the piece behind the last one, which holds the usage alone."""
        return {**self._head, 'object': self._piece, 'choices': [], 'usage': usage(answer.result)}

    def _with(self, delta: dict, reason: str | None = None, **further) -> dict:
        choice = {'index': 0, 'finish_reason': reason, 'logprobs': None}
        if self._question.is_chat:
            choice['delta'] = delta
        else:
            choice['text'] = delta.get('content', '')
        counts = {'usage': None} if self._question.include_usage else {}
        return {**self._head, 'object': self._piece, 'choices': [choice], **counts, **further}
