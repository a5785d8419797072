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

"""The fields of a request: which become fields of a goal, which are ignored, which are refused."""
from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from timebill_ros import settings
from timebill_ros.admission import MAX_CHOICES, MAX_STOP_STRINGS
from timebill_ros.asking.goals import LONGEST_S, make_goal
from timebill_ros.asking.message_check import carried
from timebill_ros.codes import OnCut, Thinking, ToolChoice
from timebill_ros.door.chat_messages import string, turns
from timebill_ros.door.refusal import Refusal, of_field, sendable
from timebill_ros.msg import SamplingConfig

# What a client says about its goal beyond OpenAI's fields; each may stand in the body or in a header.
HEADERS = {name: f'x-timebill-{name.replace("_", "-")}' for name in ('deadline_ms', 'overrun_strategy', 'priority')}
STRATEGIES = {'default': 0, **{name: int(strategy) for name, strategy in settings.STRATEGIES.items()}}
ON_CUT = {kind.name.lower(): int(kind) for kind in OnCut}
# Fields of SamplingConfig under the same name.
SAMPLING = ('temperature', 'top_p', 'top_k', 'min_p', 'repetition_penalty')
# Fields of Generate.Goal under the same name.
OF_THE_GOAL = ('choices', 'regex', 'max_eviction_ratio', 'closing_text', 'stop_at_line_end', 'allow_offboard')
# These change nothing that a client could tell from the answer, or are hints that a server may leave alone.
IGNORED = {'user', 'metadata', 'store', 'service_tier', 'safety_identifier', 'prompt_cache_key',
           'prompt_cache_options', 'prompt_cache_retention', 'prediction', 'verbosity', 'parallel_tool_calls'}
# These change the answer, and are served with such values only: those that mean "no".
ONLY = {'n': (1,), 'best_of': (1,), 'logprobs': (False,), 'top_logprobs': (0,), 'frequency_penalty': (0,),
        'presence_penalty': (0,), 'logit_bias': ({},), 'modalities': (['text'],), 'audio': (), 'functions': ([],),
        'function_call': ('none',), 'web_search_options': (), 'moderation': (), 'echo': (False,), 'suffix': ('',)}
READ = {'model', 'max_tokens', 'max_completion_tokens', 'stop', 'seed', 'stream', 'stream_options', 'response_format',
        'on_cut', 'thinking', 'reasoning_effort', *HEADERS, *SAMPLING, *OF_THE_GOAL}
OF_CHAT, OF_COMPLETION = {'messages', 'tools', 'tool_choice'}, {'prompt'}
# A seed of 0 asks a goal for a fresh one, and OpenAI's clients for the same answer again: they get this one.
SEED_FOR_0 = 2 ** 64 - 1
MOST_NAMES = 20  # of fields that are ignored, in an answer


@dataclass
class Question:
    """A request that was read. `goal`: without its time budget; `deadline_s`: from the arrival of the request on."""

    goal: object
    is_chat: bool
    deadline_s: float
    is_default_deadline: bool
    stream: bool = False
    include_usage: bool = False
    ignored: list[str] = field(default_factory=list)
    budget_s: float = 0.0  # what of the deadline the goal got: the rest was over, or is for the way back

    @property
    def comes_at_once(self) -> bool:
        """Whether a stream brings the text in one piece at its end, since a cut may take text back."""
        goal = self.goal
        return bool(goal.response_schema or goal.choices or goal.regex or goal.stop_at_line_end)

    @property
    def may_run_late(self) -> bool:
        """Whether the goal may go on after its deadline: SKIP_NEXT, or a default that may be that."""
        return self.goal.overrun_strategy in (STRATEGIES['default'], STRATEGIES['skip_next'])


def read(body, headers: Mapping[str, str], *, is_chat: bool, default_deadline_s: float, model: str) -> Question:
    """Return a request's JSON as a question. Refusal, with the field's name and value, for what cannot be served.

    `default_deadline_s`: where the request names none. `model`: the name of the one model that there is.
    """
    if not isinstance(body, dict):
        raise Refusal(400, f'the body must be a JSON object, got {body!r:.80}', code='invalid_json')
    given = {name: value for name, value in body.items() if value is not None}
    for name, header in HEADERS.items():
        if header in headers and name not in given:
            given[name] = headers[header] if name == 'overrun_strategy' else _number_of(headers[header], header)
    ignored = sorted(given.keys() & IGNORED)
    if given.get('model', model) != model:
        ignored.append('model')
    _check_names(given, READ | (OF_CHAT if is_chat else OF_COMPLETION))
    try:
        fields = {**_own_fields(given), **_length(given), **_form(given), **_thinking(given, ignored),
                  'sampling': _sampling(given)}
        if is_chat:
            goal = make_goal([], **fields, **_tools(given))
            goal.messages = turns(given.get('messages'), ignored)
        else:
            goal = make_goal([], prompt=_prompt(given.get('prompt')), **fields)
    except ValueError as error:  # of the message: a number out of its range, a text that cannot be sent
        raise of_value(error) from None
    stream, usage = _stream(given)
    deadline_s = _deadline_s(given)
    return Question(goal, is_chat, default_deadline_s if deadline_s is None else deadline_s, deadline_s is None, stream,
                    usage, _told(ignored))


def _told(names: list[str]) -> list[str]:
    """Return what is told of the fields that are ignored: a client may make up 100,000."""
    more = [f'and {len(names) - MOST_NAMES} more'] if len(names) > MOST_NAMES else []
    return [sendable(name) for name in names[:MOST_NAMES]] + more


def of_value(error: ValueError, known: Container[str] = READ | OF_CHAT | OF_COMPLETION) -> Refusal:
    """Return how it is told that no goal can carry a value. The sentences about that begin with the field's name."""
    name = re.match(r'\w*', str(error))[0]
    return Refusal(400, str(error), code='invalid_value', param=name if name in known else None)


def _check_names(given: dict, known: set[str]) -> None:
    for name, value in given.items():
        if name in ONLY:
            allowed = ONLY[name]
            if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
                say = f'only {json.dumps(allowed[0])} is served here' if allowed else 'this is not served here'
                raise of_field(name, f'{name} {value!r:.80}: {say}; leave it out', 'unsupported_value')
        elif name not in known and name not in IGNORED:
            raise of_field(name, f'unknown field {name!r:.80}: it is refused, since a misspelt one would be ignored '
                           'unseen', 'unknown_parameter')


def _number_of(text: str, header: str) -> float:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise of_field(header, f'the header {header} must be a number, got {text!r:.80}') from None


def _number(given: dict, name: str) -> float | None:
    value = given.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise of_field(name, f'{name} must be a number, got {value!r:.80}')
    return value


def _whole(given: dict, name: str, low: int, high: int) -> int | None:
    value = _number(given, name)
    if value is not None and not (low <= value <= high and value == int(value)):
        raise of_field(name, f'{name} must be a whole number from {low} to {high}, got {value!r:.80}')
    return None if value is None else int(value)


def _one_of(given: dict, name: str, known: Mapping[str, int]) -> int | None:
    value = given.get(name)
    if value is not None and not (isinstance(value, str) and value in known):
        raise of_field(name, f'{name} must be one of {", ".join(known)}, got {value!r:.80}')
    return None if value is None else known[value]


def _flag(given: dict, name: str) -> bool:
    value = given.get(name)
    if not isinstance(value, bool | None):
        raise of_field(name, f'{name} must be true or false, got {value!r:.80}')
    return bool(value)


def _deadline_s(given: dict) -> float | None:
    value = _number(given, 'deadline_ms')
    if value is not None and not 0 < value <= LONGEST_S * 1000:
        raise of_field('deadline_ms', f'deadline_ms {value!r:.80} is no deadline: give milliseconds above 0, at most '
                       f'{LONGEST_S * 1000}')
    return None if value is None else value / 1000


def _own_fields(given: dict) -> dict:
    """Return what the goal's fields of the same name get, with strategy, priority and on_cut."""
    _check_number(given.get('choices'), 'choices', MAX_CHOICES)
    fields = {name: given[name] for name in OF_THE_GOAL if name in given}
    for name, value in (('overrun_strategy', _one_of(given, 'overrun_strategy', STRATEGIES)),
                        ('priority', _whole(given, 'priority', 0, 255)), ('on_cut', _one_of(given, 'on_cut', ON_CUT))):
        if value is not None:
            fields[name] = value
    return fields


def _length(given: dict) -> dict:
    limits = {_whole(given, name, 1, 2 ** 32 - 1) for name in ('max_tokens', 'max_completion_tokens')} - {None}
    if len(limits) > 1:
        raise of_field('max_tokens', f'max_tokens and max_completion_tokens differ ({sorted(limits)}): give one')
    return {'max_new_tokens': limits.pop()} if limits else {}


def _form(given: dict) -> dict:
    """Return the form that `response_format` asks for. A schema holds always, whether `strict` or not."""
    wanted = given.get('response_format', {'type': 'text'})
    kind = wanted.get('type') if isinstance(wanted, dict) else None
    if kind == 'text':
        return {}
    if kind == 'json_object':
        return {'response_schema': '{}'}
    if kind != 'json_schema':
        raise of_field('response_format', 'response_format must be an object whose type is text, json_object or '
                       f'json_schema, got {wanted!r:.80}')
    inner = wanted.get('json_schema')
    schema = inner.get('schema') if isinstance(inner, dict) else None
    if not isinstance(schema, dict):
        raise of_field('response_format', 'response_format.json_schema.schema must be a JSON Schema, an object, '
                       f'got {schema!r:.80}')
    return {'response_schema': json.dumps(schema, ensure_ascii=False)}


def _thinking(given: dict, ignored: list[str]) -> dict:
    """Return whether there is a thinking section: `thinking` says so; OpenAI's effort none is the same as off."""
    effort = given.get('reasoning_effort')
    if effort is not None and not isinstance(effort, str):
        raise of_field('reasoning_effort', f'reasoning_effort must be text, got {effort!r:.80}')
    if effort not in (None, 'none'):
        ignored.append('reasoning_effort')
    if 'thinking' not in given:
        return {'thinking': int(Thinking.OFF)} if effort == 'none' else {}
    thinks = _flag(given, 'thinking')
    if thinks and effort == 'none':
        raise of_field('thinking', 'thinking true and reasoning_effort none contradict each other: give one of them')
    return {'thinking': int(Thinking.ON if thinks else Thinking.OFF)}


def _sampling(given: dict) -> SamplingConfig:
    """Return the sampling. What a goal takes for "as the node is configured", a client says by leaving it out."""
    sampling = SamplingConfig()
    kinds = SamplingConfig.get_fields_and_field_types()
    for name in SAMPLING:
        value = _number(given, name)
        if name == 'temperature' and value is not None and value < 0:
            raise of_field(name, f'temperature must be 0 or more, got {value!r:.80}; without it, answers are drawn as '
                           'the node is configured')
        if value is not None:
            setattr(sampling, name, carried(kinds[name], value, name))
    seed = _whole(given, 'seed', 0, 2 ** 64 - 1)
    if seed is not None:
        sampling.seed = seed or SEED_FOR_0
    stop = given.get('stop', [])
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise of_field('stop', f'stop must be text or a list of texts, got {stop!r:.80}')
    _check_number(texts, 'stop', MAX_STOP_STRINGS)
    sampling.stop = carried('sequence<string>', texts, 'stop')
    return sampling


def _check_number(values, name: str, most: int) -> None:
    """Raise a Refusal for a longer list than the node takes, before time is spent on each of its values."""
    if isinstance(values, list) and len(values) > most:
        raise of_field(name, f'{name} has {len(values)} entries: at most {most} are served')


def _tools(given: dict) -> dict:
    """Return the tools of the goal: none where `tool_choice` says so, one alone where it names that."""
    tools, choice = given.get('tools', []), given.get('tool_choice', 'auto')
    if not isinstance(tools, list):
        raise of_field('tools', f'tools must be a list, got {tools!r:.80}')
    if isinstance(choice, dict):
        inner = choice.get('function')
        name = inner.get('name') if isinstance(inner, dict) else None
        tools = [tool for tool in tools if isinstance(tool, dict) and isinstance(tool.get('function'), dict)
                 and tool['function'].get('name') == name]
        if not tools:
            raise of_field('tool_choice', f'tool_choice {choice!r:.80} names none of the tools')
        choice = 'required'
    if choice not in ('auto', 'none', 'required'):
        raise of_field('tool_choice', f'tool_choice must be auto, none, required or a function, got {choice!r:.80}')
    if choice == 'required' and not tools:
        raise of_field('tool_choice', 'tool_choice required: there are no tools')
    if not tools or choice == 'none':
        return {}
    tools = [_without_nulls({**tool, 'function': _without_nulls(tool['function'])})
             if isinstance(tool, dict) and isinstance(tool.get('function'), dict) else tool for tool in tools]
    return {'tools': json.dumps(tools, ensure_ascii=False),
            'tool_choice': int(ToolChoice.REQUIRED if choice == 'required' else ToolChoice.AUTO)}


def _without_nulls(given: dict) -> dict:
    return {name: value for name, value in given.items() if value is not None}


def _prompt(prompt) -> str:
    """Return the one text of a completion's prompt."""
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, list):
        raise of_field('prompt', 'prompt must be one text: neither lists of tokens nor several prompts are served here')
    return string(prompt, 'prompt')


def _stream(given: dict) -> tuple[bool, bool]:
    """Return whether the answer is streamed, and whether its usage ends the stream."""
    options = given.get('stream_options', {})
    if not isinstance(options, dict):
        raise of_field('stream_options', f'stream_options must be an object, got {options!r:.80}')
    unknown = options.keys() - {'include_usage', 'include_obfuscation'}
    if unknown:
        raise of_field('stream_options', f'stream_options has an unknown field {min(unknown)!r:.80}')
    stream, usage = _flag(given, 'stream'), _flag(options, 'include_usage')
    if 'stream_options' in given and not stream:
        raise of_field('stream_options', 'stream_options is for streams alone: give stream true, or leave it out')
    return stream, usage
