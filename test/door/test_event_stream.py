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

"""What is still to be sent at the end of a stream; test_completions.py tests whole streams."""
import pytest

from timebill_ros.door.event_stream import rest_of


@pytest.mark.parametrize(('whole', 'shown', 'rest'), [
    ('two three', '', 'two three'), ('two three', 'two ', 'three'), ('two', 'two', ''), ('two', 'two \n', ''),
    ('two', '\n two ', ''), ('', '\n', ''), ('', '', ''), ('three', 'two', None), ('', 'two', None),
    ('two three', 'two x', None), ('two three', '\n two', ' three'), ('two\nthree', 'two\n\n', 'three'),
    ('two\nthree', ' two\n\n', 'three'), ('two three', ' three', None)])
def test_what_is_left_to_be_shown_of_an_answer(whole, shown, rest):
    assert rest_of(whole, shown) == rest
