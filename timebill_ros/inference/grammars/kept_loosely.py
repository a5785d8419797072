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

"""What llguidance takes of a JSON Schema and does not keep to the letter: such a schema is refused.

It counts the members of an object by occurrence, so that one name twice is two members. And an exclusive bound of a
number may be reached: 0 passes for a number above 0 and below 0.5. Integers are right.
"""
from __future__ import annotations

VALUES = ('enum', 'const', 'default', 'examples')  # keywords whose values are no schemas
# Keywords whose values are schemas by name. A name may be that of a keyword.
NAMED = ('properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas')


def kept_loosely(schema) -> str:
    """Return why an answer could break this JSON Schema, as a sentence with the remedy; empty: it could not."""
    if isinstance(schema, list):
        return next(filter(None, map(kept_loosely, schema)), '')
    if not isinstance(schema, dict):
        return ''
    fewest, required = schema.get('minProperties'), schema.get('required')
    if _is_number(fewest) and fewest > max(1, len(set(map(str, required))) if isinstance(required, list) else 0):
        return f'minProperties {fewest} could be met by one name several times: name the members in "required"'
    for name in ('exclusiveMinimum', 'exclusiveMaximum'):
        if _is_number(schema.get(name)) and schema.get('type') != 'integer':
            return f'{name} {schema[name]} of a number could be reached: give minimum or maximum, or type integer'
    inner = (list(value.values()) if name in NAMED and isinstance(value, dict) else value
             for name, value in schema.items() if name not in VALUES)
    return next(filter(None, map(kept_loosely, inner)), '')


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
