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
from functools import lru_cache

from timebill_ros.request import Request

LONGEST = 8192  # characters; a longer one says nothing of answers that come
INDENTED = 8 * LONGEST  # of these with the white space of their indentation
DEEPEST = 16  # schemas within schemas
MOST_SCHEMAS = 2000  # of one form that are looked at, values of enumerations too: a few milliseconds
KEPT = 64  # forms whose answer is kept: a planner sends the same one again and again
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
    return _of_text(request.response_schema) if request.response_schema else None


@lru_cache(KEPT)
def _of_text(response_schema: str) -> int | None:
    try:
        longest = longest_instance(json.loads(response_schema) or {'type': 'object'})
        return None if longest is None else len(longest.encode(errors='surrogatepass'))
    except (ValueError, RecursionError):  # admission refuses what is no JSON
        return None


class _NotKnown(Exception):
    """There is no longest instance, or it is not looked for."""


def longest_instance(schema: dict) -> str | None:
    """Return the longest JSON text that `schema` allows, as people indent it; None: there is none or it is not known.

    Numbers without bounds, texts without maxLength, open objects, references and combinations other than anyOf and
    oneOf are not followed. What this takes is bounded whatever the schema: the dispatcher's thread waits for it.
    """
    try:
        return _indented(_Search().longest(schema, 0))
    except (_NotKnown, RecursionError):
        return None


def _indented(value) -> str:
    """Return a value as people indent it; deep lists make that much longer than their text is."""
    parts, room = [], INDENTED
    for part in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
        parts.append(part)
        room -= len(part)
        if room < 0:
            raise _NotKnown
    return ''.join(parts)


def _size(value) -> int:
    return len(json.dumps(value))


def _bounded(size: int) -> int:
    """Return a number of characters. _NotKnown for too many."""
    if size > LONGEST:
        raise _NotKnown
    return size


class _Search:
    """Looks at one schema, and at each of its parts once: JSON is a tree, and no kind has its parts from another's."""

    def __init__(self):
        self._left = MOST_SCHEMAS

    def longest(self, schema, depth: int):
        """Return the longest instance; `depth`: how many schemas this one is within. _NotKnown where there is none."""
        self._left -= 1
        if not isinstance(schema, dict) or depth > DEEPEST or self._left < 0:
            raise _NotKnown
        if 'const' in schema:
            _bounded(_size(schema['const']))
            return schema['const']
        if isinstance(schema.get('enum'), list):
            self._left -= len(schema['enum'])
            if self._left < 0:
                raise _NotKnown
            return self._longer(schema['enum'])
        for keyword in ('anyOf', 'oneOf'):
            if isinstance(schema.get(keyword), list) and schema.keys() <= {keyword, *_NOTES} - {'type'}:
                return self._longer(self.longest(part, depth + 1) for part in schema[keyword])
        kinds = schema.get('type')
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if not all(isinstance(kind, str) for kind in kinds):
            raise _NotKnown
        return self._longer(self._of_kind(schema, kind, depth) for kind in dict.fromkeys(kinds))

    @staticmethod
    def _longer(values):
        """Return the value that is the longest text."""
        found, size = None, -1
        for value in values:
            new = _bounded(_size(value))
            if new > size:
                found, size = value, new
        if size < 0:
            raise _NotKnown
        return found

    def _of_kind(self, schema: dict, kind: str, depth: int):
        if kind not in _KNOWN or not schema.keys() <= _KNOWN[kind] | _NOTES:
            raise _NotKnown
        return {'object': self._object, 'array': self._array, 'string': _string, 'integer': _integer,
                'boolean': lambda schema, depth: False, 'null': lambda schema, depth: None}[kind](schema, depth)

    def _object(self, schema: dict, depth: int) -> dict:
        properties = schema.get('properties', {})
        if schema.get('additionalProperties') is not False or not isinstance(properties, dict):
            raise _NotKnown
        found, size = {}, 0
        for name, part in properties.items():
            found[name] = self.longest(part, depth + 1)
            size = _bounded(size + _size(name) + _size(found[name]))
        return found

    def _array(self, schema: dict, depth: int) -> list:
        most = schema.get('maxItems')
        if not isinstance(most, int) or not 0 <= most <= LONGEST:
            raise _NotKnown
        item = self.longest(schema.get('items', {}), depth + 1) if most else None
        _bounded(most * _size(item))
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
