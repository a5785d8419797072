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

"""Where a JSON text that was cut may end. No library: every prefix of texts, closed at each place that is found."""
import json

import pytest

from timebill_ros.inference.grammars.json_cuts import begun_behind, scan, whole_characters, whole_string

TEXT = ('{"a": [1, 2.5e-3, {"b": "x,y]}\\"{[", "c": null}, []], "d": {"e": {}}, '
        '"f\\\\": "\\u00e9\\ud83d\\ude00 \u597d", "g": -0, "h": true }').encode()


@pytest.mark.parametrize('n', range(1, len(TEXT) + 1))
def test_every_place_gives_json_once_it_is_closed(n):
    found = scan(TEXT[:n])
    for cut in found.cuts:
        if found.is_open and cut.end == n:
            continue  # half a number or literal
        json.loads(TEXT[:cut.end] + cut.closers)
    assert found.cuts == sorted(found.cuts, key=lambda cut: cut.end)


def test_no_member_that_is_complete_is_lost():
    *_, last = scan(TEXT[:TEXT.index(b', "h"')]).cuts
    assert json.loads(TEXT[:last.end] + last.closers)['g'] == 0
    *_, last = scan(TEXT[:TEXT.index(b'x,y')]).cuts
    assert json.loads(TEXT[:last.end] + last.closers) == {'a': [1, 0.0025, {}]}


@pytest.mark.parametrize(('text', 'cuts'), [
    (b'', []), (b'  ', []), (b'{', [(1, b'}')]), (b'[1', [(1, b']'), (2, b']')]), (b'"a', []), (b'"a"', [(3, b'')]),
    (b'{"a"', [(1, b'}')]), (b'{"a": "b', [(1, b'}')]), (b'{"a": "b"', [(1, b'}'), (9, b'}')]),
    (b'[[', [(1, b']'), (2, b']]')]), (b'tru', [(3, b'')]),
])
def test_what_is_found(text, cuts):
    assert [tuple(cut) for cut in scan(text).cuts] == cuts


@pytest.mark.parametrize(('text', 'string_at', 'is_open'), [
    (b'[1', None, True), (b'[1,', None, False), (b'{"a": "b', 6, False), (b'{"a', 1, False), (b'["\\"', 1, False),
    (b'["\\\\"', None, False), (b'[tru', None, True), (b'["a"', None, False),
])
def test_what_a_text_ends_in(text, string_at, is_open):
    found = scan(text)
    assert (found.string_at, found.is_open) == (string_at, is_open)


@pytest.mark.parametrize(('cut', 'whole'), [
    ('"ab', '"ab'), ('"ab\\', '"ab'), ('"ab\\\\', '"ab\\\\'), ('"\\\\\\', '"\\\\'), ('"ab\\u', '"ab'),
    ('"ab\\u00e', '"ab'),
    ('"ab\\u00e9', '"ab\\u00e9'), ('"a\\\\u00e', '"a\\\\u00e'), ('"\\ud83d', '"'), ('"\\ud83d\\', '"'),
    ('"\\ud83d\\ude0', '"'), ('"\\ud83d\\ude00', '"\\ud83d\\ude00'), ('"\\\\ud83d', '"\\\\ud83d'), ('"', '"'),
    ('"\u597d', '"\u597d'),
])
def test_half_an_escape_goes(cut, whole):
    assert whole_string(cut.encode(), 0).decode() == whole
    json.loads(whole_string(cut.encode(), 0) + b'"')


@pytest.mark.parametrize('n', range(1, 4))
def test_half_a_character_goes(n):
    text = b'ab' + '\U0001f916'.encode()
    assert whole_characters(text[:2 + n]) == b'ab' and whole_characters(text) == text
    assert whole_string(b'"' + text[:2 + n], 0) == b'"ab'
    assert whole_characters(b'a\xff\xff') == b'a\xff\xff'  # bytes of no character are somebody else's


@pytest.mark.parametrize(('kept', 'gone', 'n'), [
    (b'[1', b'', 0), (b'[1', b', ', 0), (b'[1', b', 2', 1), (b'[', b'2, 3', 2), (b'[', b'"a, b', 1),
    (b'{"a": 1', b', "b', 1), (b'{"a": 1', b', "b": [1, {"c": 2}], "d"', 2), (b'{', b'"a": {"b": 1, "c": [1, 2', 1),
    (b'[{"a": 1', b'}, {"a": 2, "b": 3}, {', 2), (b'{"a": [1', b', 2], "b": "x', 2), (b'[[1', b'], 7', 1),
    (b'[1', b', "\\", 2"', 1), (b'[true', b', nul', 1),
])
def test_what_begins_behind_a_cut(kept, gone, n):
    assert begun_behind(kept + gone, len(kept)) == n
    assert begun_behind(kept, len(kept) + 5) == 0  # a cut behind what the grammar forces
