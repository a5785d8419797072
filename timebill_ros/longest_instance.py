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

"""The longest JSON that a schema allows, where there is one: in lists of bounded length, texts of enumerations, ..."""
from __future__ import annotations

import json

from timebill_ros.request import Request

LONGEST = 8192  # characters; a longer one says nothing of answers that come
DEEPEST = 16  # schemas within schemas
WORD = 'lorem '  # texts of a bounded length are about as many tokens as these words
# Keywords whose schemas are looked into; any other that restricts or widens makes the answer 'not known'.
_NOTES = {'title', 'description', '$schema', '$id', 'default', 'examples', 'type', 'x-guidance'}
_KNOWN = {'object': {'properties', 'required', 'additionalProperties'}, 'array': {'items', 'minItems', 'maxItems'},
          'string': {'minLength', 'maxLength'}, 'integer': {'minimum', 'maximum'}, 'boolean': set(), 'null': set()}


def longest_answer(request: Request) -> int | None:
    """Return how many bytes the longest answer has that a goal's form allows; None: it has no form, or it is not known.

    JSON is counted as people indent it.
    """
    if request.choices:
        return max(len(choice.encode()) for choice in request.choices)
    if request.response_schema:
        longest = longest_instance(json.loads(request.response_schema) or {'type': 'object'})
        return None if longest is None else len(longest.encode())
    return None


class _NotKnown(Exception):
    """There is no longest instance, or it is not looked for."""


def longest_instance(schema: dict) -> str | None:
    """Return the longest JSON text that `schema` allows, as people indent it; None: there is none or it is not known.

    Numbers without bounds, texts without maxLength, open objects, references and combinations other than anyOf and
    oneOf are not followed.
    """
    try:
        return json.dumps(_longest(schema, 0), indent=2, ensure_ascii=False)
    except _NotKnown:
        return None


def _size(value) -> int:
    return len(json.dumps(value))


def _longest(schema, depth: int):
    if not isinstance(schema, dict) or depth > DEEPEST:
        raise _NotKnown
    if 'const' in schema:
        return schema['const']
    if isinstance(schema.get('enum'), list) and schema['enum']:
        return max(schema['enum'], key=_size)
    for keyword in ('anyOf', 'oneOf'):
        if keyword in schema and schema.keys() <= {keyword, *_NOTES} - {'type'}:
            return max((_longest(part, depth + 1) for part in schema[keyword]), key=_size)
    kind = schema.get('type')
    if isinstance(kind, list):
        return max((_longest({**schema, 'type': one}, depth + 1) for one in kind), key=_size)
    if kind not in _KNOWN or not schema.keys() <= _KNOWN[kind] | _NOTES:
        raise _NotKnown
    found = _OF_KIND[kind](schema, depth)
    if _size(found) > LONGEST:
        raise _NotKnown
    return found


def _object(schema: dict, depth: int) -> dict:
    if schema.get('additionalProperties') is not False or not isinstance(schema.get('properties', {}), dict):
        raise _NotKnown
    return {name: _longest(part, depth + 1) for name, part in schema.get('properties', {}).items()}


def _array(schema: dict, depth: int) -> list:
    most = schema.get('maxItems')
    if not isinstance(most, int) or not 0 <= most <= LONGEST:
        raise _NotKnown
    item = _longest(schema.get('items', {}), depth + 1) if most else None
    if most * _size(item) > LONGEST:
        raise _NotKnown
    return [item] * most


def _string(schema: dict, depth: int) -> str:
    most = schema.get('maxLength')
    if not isinstance(most, int) or not 0 <= most <= LONGEST:
        raise _NotKnown
    return (WORD * (most // len(WORD) + 1))[:most]


def _integer(schema: dict, depth: int) -> int:
    low, high = schema.get('minimum'), schema.get('maximum')
    if not isinstance(low, int) or not isinstance(high, int):
        raise _NotKnown
    return max(low, high, key=lambda number: len(str(number)))


_OF_KIND = {'object': _object, 'array': _array, 'string': _string, 'integer': _integer,
            'boolean': lambda schema, depth: False, 'null': lambda schema, depth: None}
