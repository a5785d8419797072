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

"""Schemas of five kinds, and a vocabulary of bytes and pieces to write their instances with."""
import json

from timebill_ros.inference.grammars.vocabulary import N_BYTES, of_bytes

PIECES = ['": "', '", "', '": ', ', "', '"}', '{"', '[{"', '"]', '\\u', '\\ud83d\\ude00', '\\\\', '\\"', 'true', 'null',
          '0.5', '  ', '\n', '\n    ', '    ', 'é', '好', '\U0001f916', 'ab', 'the ', 'kitchen', '12']
TOKENS = [*(bytes([byte]) for byte in range(N_BYTES)), *(piece.encode() for piece in PIECES),
          '\U0001f916'.encode()[:2], '好'.encode()[1:], b'<end>']  # two of them are halves of characters
EOS = len(TOKENS) - 1

SCHEMAS = {
    'flat': {'type': 'object', 'properties': {'name': {'type': 'string'}, 'speed': {'type': 'number'},
                                              'count': {'type': 'integer'}, 'on': {'type': 'boolean'}},
             'required': ['name'], 'additionalProperties': False},
    'nested': {'type': 'object', 'properties': {
        'pose': {'type': 'object', 'properties': {'x': {'type': 'number'}, 'y': {'type': 'number'},
                                                  'frame': {'type': 'string', 'minLength': 2}},
                 'required': ['x', 'y'], 'additionalProperties': False},
        'note': {'type': ['string', 'null']}}, 'required': ['pose'], 'additionalProperties': False},
    'lists': {'type': 'object', 'properties': {
        'steps': {'type': 'array', 'minItems': 1, 'items': {
            'type': 'object', 'properties': {'do': {'type': 'string'}, 'at': {'type': 'array', 'items': {
                'type': 'integer', 'minimum': 5, 'maximum': 150}}},
            'required': ['do'], 'additionalProperties': False}},
        'why': {'type': 'string'}}, 'required': ['steps'], 'additionalProperties': False},
    'enums': {'type': 'object', 'properties': {
        'action': {'enum': ['go', 'grasp', 'place', 'wait']}, 'room': {'enum': ['hall', 'kitchen', None, 3]},
        'mode': {'const': 'safe'}}, 'required': ['action', 'room', 'mode'], 'additionalProperties': False},
    'recursive': {'$defs': {'node': {'type': 'object', 'properties': {
        'label': {'type': 'string', 'maxLength': 12}, 'parts': {'type': 'array', 'items': {'$ref': '#/$defs/node'}}},
        'required': ['label'], 'additionalProperties': False}}, '$ref': '#/$defs/node'},
    'any object': {},
}
TEXTS = {name: json.dumps(schema) for name, schema in SCHEMAS.items()}


def vocabulary():
    """Return the LLTokenizer of TOKENS."""
    return of_bytes(TOKENS, EOS)
