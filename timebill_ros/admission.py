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

"""Whether a goal is well formed. The node checks it before the goal waits or runs; no model, no torch, no rclpy."""
from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import replace

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.overrun import STRATEGIES
from timebill_ros.request import Request, Sampling
from timebill_ros.tool_admission import check_calls, check_tools

ROLES = ('system', 'user', 'assistant', 'tool')
MAX_MESSAGES = 1024
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256
MAX_CLOSING_CHARACTERS = 1024
MAX_SCHEMA_CHARACTERS = 65536
MAX_REGEX_CHARACTERS = 4096
MAX_CHOICES = 256
MAX_CHOICE_CHARACTERS = 1024
PENALTIES = (0.01, 100.0)  # repetition penalties; beyond them logits might overflow
LARGEST_SEED = 2 ** 53 - 1  # of those that are drawn: what reads JSON into floats tells them apart
_NEUTRAL = Sampling()
# Keywords of JSON Schema: those whose value is a schema, a list of schemas, schemas by name, and a number of things.
TYPES = ('object', 'array', 'string', 'integer', 'number', 'boolean', 'null')
_SCHEMA = ('items', 'additionalProperties')
_OF_SCHEMAS = ('anyOf', 'oneOf', 'allOf', 'prefixItems')
_OF_NAMES = ('properties', 'patternProperties', '$defs', 'definitions')
_COUNTS = ('minItems', 'maxItems', 'minLength', 'maxLength', 'minProperties', 'maxProperties')


def _invalid(message: str) -> GoalError:
    return GoalError(ErrorCode.INVALID_GOAL, message)


def resolve_deadline(*, release_s: float, time_budget_s: float, deadline_in_s: float | None,
                     default_time_budget_s: float) -> float:
    """Return the monotonic instant by which the result is due: the earlier one where the goal gives two.

    `time_budget_s` is 0 where the goal gives none. `deadline_in_s` is the absolute deadline in seconds from release,
    None where the goal gives none. GoalError where the budget is negative or the deadline has passed.
    """
    if time_budget_s < 0:
        raise _invalid(f'time_budget must be positive, got {time_budget_s} s')
    if deadline_in_s is not None and deadline_in_s <= 0:  # not INVALID_GOAL: the goal may have been long on its way
        raise GoalError(ErrorCode.INFEASIBLE, f'deadline lies {-deadline_in_s:.3f} s in the past')
    budgets = ([time_budget_s] if time_budget_s > 0 else []) + ([deadline_in_s] if deadline_in_s is not None else [])
    if not budgets and default_time_budget_s > 0:
        budgets = [default_time_budget_s]
    if not budgets:
        raise _invalid('the goal has neither time_budget nor deadline, and default_time_budget_s is 0')
    return release_s + min(budgets)


def resolve_sampling(asked: Sampling, defaults: Mapping[str, float]) -> Sampling:
    """Return a goal's sampling with all that it leaves open filled in.

    A negative temperature becomes that of `defaults` (fields of Sampling by name; empty: greedy), and so does each of
    the other fields there that the goal leaves at the value that changes nothing. Seed 0 becomes a fresh one.
    """
    filled = {'seed': asked.seed or 1 + secrets.randbelow(LARGEST_SEED)}
    if asked.temperature < 0:  # false for NaN
        filled['temperature'] = 0.0
        filled |= {name: value for name, value in defaults.items()
                   if name == 'temperature' or getattr(asked, name) == getattr(_NEUTRAL, name)}
    return replace(asked, **filled)


def check_time(request: Request) -> None:
    """Raise GoalError where the budget does not even leave time to carry a result to the client."""
    if request.time_budget_s <= request.delivery_margin_s:
        raise GoalError(ErrorCode.INFEASIBLE, f'the time budget of {request.time_budget_s:.4g} s leaves nothing after '
                        f'the delivery margin of {request.delivery_margin_s:.4g} s')


def check(request: Request, *, max_prompt_characters: int) -> None:
    """Raise GoalError, with the offending value, unless `request` can be tried."""
    if not request.prompt and not request.messages:
        raise _invalid('the goal has an empty prompt and no messages')
    if len(request.messages) > MAX_MESSAGES:
        raise _invalid(f'the goal holds {len(request.messages)} messages; at most {MAX_MESSAGES} are taken')
    for index, message in enumerate(request.messages):
        if message['role'] not in ROLES:
            raise _invalid(f'messages[{index}].role must be one of {", ".join(ROLES)}, got {message["role"][:64]!r}')
    if request.messages and not any(message['content'] or message.get('tool_calls') for message in request.messages):
        raise _invalid('all messages are empty')
    if request.characters > max_prompt_characters:
        raise GoalError(ErrorCode.PROMPT_TOO_LONG, f'the prompt has {request.characters} characters; the server takes '
                        f'at most {max_prompt_characters} (max_prompt_characters)')
    if request.strategy not in STRATEGIES:
        raise _invalid(f'overrun_strategy {int(request.strategy)} is not served')
    if not 0 <= request.max_eviction_ratio < 1:  # also false for NaN
        why = ': the field is a float32, in which numbers from 0.99999998 on become 1; 0.9999 is taken' \
            if request.max_eviction_ratio == 1 else ''
        raise _invalid(f'max_eviction_ratio must be in [0, 1) or negative, got {request.max_eviction_ratio}{why}')
    if len(request.closing_text) > MAX_CLOSING_CHARACTERS:
        raise _invalid(f'closing_text has {len(request.closing_text)} characters; at most {MAX_CLOSING_CHARACTERS} '
                       'are taken')
    sampling = request.sampling
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise _invalid(f'sampling.temperature must be finite and >= 0, got {sampling.temperature}')
    if not 0 < sampling.top_p <= 1:
        raise _invalid(f'sampling.top_p must be in (0, 1], got {sampling.top_p}')
    if not 0 <= sampling.min_p <= 1:
        raise _invalid(f'sampling.min_p must be in [0, 1], got {sampling.min_p}')
    least, most = PENALTIES
    if not least <= round(sampling.repetition_penalty, 6) <= most:  # 0.01 as float32 is a little less
        raise _invalid(f'sampling.repetition_penalty must be in [{least}, {most}], got {sampling.repetition_penalty}')
    if len(sampling.stop) > MAX_STOP_STRINGS:
        raise _invalid(f'sampling.stop holds {len(sampling.stop)} strings; at most {MAX_STOP_STRINGS} are taken')
    for index, stop in enumerate(sampling.stop):
        if not 0 < len(stop) <= MAX_STOP_CHARACTERS:
            raise _invalid(f'sampling.stop[{index}] must have 1 to {MAX_STOP_CHARACTERS} characters, got {len(stop)}')
    _check_form(request)
    check_tools(request)
    check_calls(request.messages)


def _check_form(request: Request) -> None:
    """Raise GoalError, with the offending value, unless an answer can have the form that `request` asks for."""
    given = [name for name in ('response_schema', 'choices', 'regex') if getattr(request, name)]
    if not given:
        return
    if len(given) > 1:
        raise _invalid(f'the goal has {" and ".join(given)}; an answer has one form: give one of them')
    beside = 'closing_text' if request.closing_text else 'stop_at_line_end' if request.stop_at_line_end else \
        'sampling.stop' if request.sampling.stop else ''
    if beside:
        raise _invalid(f'{beside} cannot go with {given[0]}, which says where an answer ends and how it is completed '
                       'where it is cut: leave it out')
    if request.response_schema:
        _check_schema(request.response_schema)
    if len(request.regex) > MAX_REGEX_CHARACTERS:
        raise _invalid(f'regex has {len(request.regex)} characters; at most {MAX_REGEX_CHARACTERS} are taken')
    if len(request.choices) > MAX_CHOICES:
        raise _invalid(f'the goal holds {len(request.choices)} choices; at most {MAX_CHOICES} are taken')
    for index, choice in enumerate(request.choices):
        if not 0 < len(choice) <= MAX_CHOICE_CHARACTERS:
            raise _invalid(f'choices[{index}] must have 1 to {MAX_CHOICE_CHARACTERS} characters, got {len(choice)}')


def _check_schema(text: str) -> None:
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise _invalid(f'response_schema has {len(text)} characters; at most {MAX_SCHEMA_CHARACTERS} are taken')
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f'response_schema is no JSON: {error}; it begins with {text[:64]!r}') from error
    if not isinstance(schema, dict):
        raise _invalid(f'response_schema must be a JSON object, such as {{"type": "object"}}, got {text[:64]!r}')
    _check_keywords(schema)


def _check_keywords(schema: dict) -> None:
    """Raise GoalError, with the offending value, where a keyword of a JSON Schema has a value that it cannot have.

    Schemas within it are looked at too, each once; the worker, which compiles it, says what of the rest it does not
    follow.
    """
    left: list[tuple[object, tuple]] = [(schema, ())]  # (a schema, its place: the place that it is in, and its name)
    while left:
        found, place = left.pop()
        if isinstance(found, bool) and place:
            continue
        if not isinstance(found, dict):
            raise _wrong(place, 'a schema, which is an object, true or false', found)
        for keyword, value in found.items():
            here = (place, f'.{keyword}')
            needed = _needed(keyword, value)
            if needed:
                raise _wrong(here, needed, value)
            if keyword in _OF_NAMES:
                left += [(part, (here, f'.{name}')) for name, part in value.items()]
            elif keyword in _OF_SCHEMAS or keyword == 'items' and isinstance(value, list):
                left += [(part, (here, f'[{index}]')) for index, part in enumerate(value)]
            elif keyword in _SCHEMA:
                left.append((value, here))


def _needed(keyword: str, value) -> str:
    """Return what the value of a keyword must be; empty: it is that, or any value will do."""
    if keyword == 'type':
        kinds = value if isinstance(value, list) else [value]
        fits = bool(kinds) and all(isinstance(kind, str) and kind in TYPES for kind in kinds)
        return '' if fits else f'one of {", ".join(TYPES)}, or a list of these'
    if keyword in _OF_NAMES:
        return '' if isinstance(value, dict) else 'an object that has a schema for each name'
    if keyword in _OF_SCHEMAS:
        some = keyword in ('anyOf', 'oneOf')  # an empty one of these, or of enum, allows nothing; others anything
        fits = isinstance(value, list) and (value or not some)
        return '' if fits else f'a list of {"one or more " if some else ""}schemas'
    if keyword == 'enum':
        return '' if isinstance(value, list) and value else 'a list of one or more values'
    if keyword == 'required':
        fits = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return '' if fits else 'a list of names'
    if keyword in _COUNTS:
        return '' if type(value) is int and value >= 0 else 'a whole number, 0 or more'
    if keyword in ('minimum', 'maximum'):
        return '' if type(value) in (int, float) else 'a number'
    return ''


def _wrong(place: tuple, needed: str, value) -> GoalError:
    """Return the error of a keyword's value; `place`: see _check_keywords."""
    names: list[str] = []
    while place:
        place, name = place
        names.append(name)
    where = ''.join(reversed(names))
    where = where if len(where) <= 120 else f' .. {where[-100:]}'
    try:
        shown = json.dumps(value)[:64]
    except RecursionError:
        shown = 'a value nested too deeply'
    return _invalid(f'response_schema{where} must be {needed}, got {shown}')
