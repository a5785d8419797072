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

"""A YAML file read against a table of its keys; a mistake is told with file, line, key, value and remedy."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

MAX_CHARACTERS = 1 << 20  # of a file


class YamlError(ValueError):
    """Raised for a file that is not as its table says; its sentence says where and why."""


class Kind(NamedTuple):
    """What a value must be: in words, and as a question. `remedy`: what to do about another one."""

    words: str
    holds: Callable[[Any], bool]
    remedy: str = ''


class Keys(NamedTuple):
    """What a mapping may hold: for each key a Kind, Keys, or a list of one of these.

    `needed`: the keys that must be there.
    """

    of: dict[str, Any]
    needed: tuple[str, ...] = ()


TEXT = Kind('a text', lambda v: isinstance(v, str), ': put it between quotes')
SWITCH = Kind('true or false', lambda v: isinstance(v, bool))


def whole(low: int, high: int) -> Kind:
    """Return the kind of whole numbers from `low` to `high`."""
    return Kind(f'a whole number from {low} to {high}', lambda v: type(v) is int and low <= v <= high)


def number(high: float, unit: str) -> Kind:
    """Return the kind of numbers from 0 to `high`."""
    return Kind(f'a number of {unit} from 0 to {high}', lambda v: type(v) in (int, float) and 0 <= v <= high)


class CheckedYaml:
    """The values of a file, which are as its table says. YamlError for any other file."""

    def __init__(self, path: Path, keys: Keys):
        self.path = path
        self._lines: dict[tuple, int] = {}  # of each value, by its place
        self._loader = yaml.SafeLoader(_text(path))
        try:
            root = self._loader.get_single_node()
            if root is None:
                raise YamlError(f'{path} is empty; it must have {" and ".join(keys.needed)}')
            self.value = self._value(root, keys, ())
        except yaml.YAMLError as error:
            mark = getattr(error, 'problem_mark', None)
            raise YamlError(f'{path}{f", line {mark.line + 1}" if mark else ""}: this is not YAML: '
                            f'{getattr(error, "problem", None) or error}') from error
        except RecursionError as error:
            raise YamlError(f'{path}: lists or keys are nested too deeply') from error

    def wrong(self, place: tuple, words: str) -> YamlError:
        """Return the error about a value: `place` is ('answers', 0, 'text') for the text of the first answer."""
        return self._error(self._lines.get(place, 1), place, words)

    def _error(self, line: int, place: tuple, words: str) -> YamlError:
        name = ''.join(f'[{part}]' if isinstance(part, int) else f'.{part}' for part in place).removeprefix('.')
        return YamlError(f'{self.path}, line {line}: {name or "the file"} {words}')

    def _value(self, node: yaml.Node, wanted, place: tuple) -> Any:
        self._lines[place] = node.start_mark.line + 1
        if isinstance(wanted, Keys):
            if not isinstance(node, yaml.MappingNode):
                raise self.wrong(place, f'must have keys, of {", ".join(wanted.of)}; got {_shown(node)}')
            found = {key: self._value(value, wanted.of[key], (*place, key))
                     for key, value in self._pairs(node, wanted, place)}
            for key in wanted.needed:
                if key not in found:
                    raise self.wrong(place, f'must have {key}, which is missing')
            return found
        if isinstance(wanted, list):
            if not isinstance(node, yaml.SequenceNode) or not node.value:
                raise self.wrong(place, f'must be a list of one item or more, each after a dash; got {_shown(node)}')
            return [self._value(item, wanted[0], (*place, i)) for i, item in enumerate(node.value)]
        try:
            value = self._loader.construct_object(node, deep=True) if isinstance(node, yaml.ScalarNode) else None
        except (yaml.YAMLError, ValueError) as error:  # a tag that is not YAML's own, or a date that there is not
            raise self.wrong(place, f'must be {wanted.words}; got {_shown(node)} ({error})') from error
        if not isinstance(node, yaml.ScalarNode) or not wanted.holds(value):
            remedy = wanted.remedy if isinstance(node, yaml.ScalarNode) else ''
            raise self.wrong(place, f'must be {wanted.words}; got {_shown(node)}{remedy}')
        return value

    def _pairs(self, node: yaml.MappingNode, wanted: Keys, place: tuple) -> Iterator[tuple[str, yaml.Node]]:
        """Yield the keys, each of them known and there once, with their values."""
        seen = set()
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else _shown(key_node)
            line = key_node.start_mark.line + 1
            if key not in wanted.of:
                raise self._error(line, (*place, key), f'is not known; here may be {", ".join(wanted.of)}')
            if key in seen:
                raise self._error(line, (*place, key), 'is there twice; leave one of them out')
            seen.add(key)
            yield key, value


def _text(path: Path) -> str:
    try:
        with path.open(encoding='utf-8') as file:
            text = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise YamlError(f'{path} cannot be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise YamlError(f'{path} is not a text in UTF-8: {error}') from error
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f'{path} has more than {MAX_CHARACTERS} characters, which is too long')
    return text


def _shown(node: yaml.Node) -> str:
    """Return a value as an error shows it."""
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value if len(node.value) <= 60 else node.value[:60] + '...')
    kind = 'list' if isinstance(node, yaml.SequenceNode) else 'mapping'
    return f'a {kind}' if node.value else f'an empty {kind}'
