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

"""What a ROS message can carry, checked field by field before the message layer converts it.

The message layer converts a message as it is sent, on the thread that sends. There a bad field raises or, where it is
out of range, arrives as another number.
"""
from __future__ import annotations

from collections.abc import Sequence, Set
from numbers import Integral, Real

LARGEST = {'float': 3.4028234663852886e+38, 'double': float('inf')}  # finite ones; inf and NaN can be carried
INTEGERS = {**{f'uint{bits}': (0, 2 ** bits - 1) for bits in (8, 16, 32, 64)},
            **{f'int{bits}': (-2 ** (bits - 1), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)}}


def check_fields(message, prefix: str = '') -> None:
    """Raise ValueError, with a field's name and value and what to give, unless `message` can carry all its fields.

    Numbers that the message layer does not take for what they are, such as numpy's and an int in a float's field, are
    replaced by Python's own. `prefix` stands before the names of the fields.
    """
    for name, kind in message.get_fields_and_field_types().items():
        setattr(message, name, carried(kind, getattr(message, name), prefix + name))


def carried(kind: str, value, name: str):
    """Return `value` as a field of the ROS type `kind` carries it. ValueError, with `name`, where it cannot be one."""
    if kind == 'string':
        return _text(value, name)
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        if isinstance(value, Integral) and low <= value <= high:
            return int(value)
        raise _unfit(name, f'a whole number from {low} to {high}', value)
    if kind in LARGEST:
        if isinstance(value, Real) and not LARGEST[kind] < abs(value) < float('inf'):
            return float(value)
        raise _unfit(name, 'a number' if kind == 'double' else f'a number from {-LARGEST[kind]:.4g} to '
                     f'{LARGEST[kind]:.4g}', value)
    if kind == 'boolean':
        if isinstance(value, bool):
            return value
        raise _unfit(name, 'True or False', value)
    if kind.startswith('sequence<'):
        if isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes)):
            return [carried(kind[len('sequence<'):-1], item, f'{name}[{index}]') for index, item in enumerate(value)]
        raise _unfit(name, 'a list', value)
    if f'{type(value).__module__.partition(".")[0]}/{type(value).__name__}' != kind:
        raise _unfit(name, f'a message of the type {kind}', value)
    check_fields(value, f'{name}.')
    return value


def _unfit(name: str, wanted: str, value) -> ValueError:
    return ValueError(f'{name} must be {wanted}, got {value!r:.80}')


def _text(value, name: str) -> str:
    if not isinstance(value, str):
        raise _unfit(name, 'text', value)
    if '\0' in value:
        raise ValueError(f'{name} holds a NUL at character {value.index(chr(0))}; ROS messages end a text there: '
                         'leave it out')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f'{name} holds {value[error.start]!r} at character {error.start}, half of a surrogate pair, '
                         'which UTF-8 has no place for: decode the text with the encoding that it was written '
                         'in') from None
    return value
