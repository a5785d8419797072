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

"""How much of a prompt the node takes for known, from texts alone."""
import gc
from collections import OrderedDict

import pytest

from timebill_ros.dispatch import seen_prompts
from timebill_ros.dispatch.seen_prompts import CHARACTERS, SeenPrompts
from timebill_ros.request import Request

MAP = ''.join(chr(97 + i * i % 26) for i in range(4 * CHARACTERS))


def prompt(text):
    return Request('id', 0.0, 1.0, prompt=text)


def chat(*contents):
    return Request('id', 0.0, 1.0, messages=[{'role': 'user', 'content': content} for content in contents])


@pytest.mark.parametrize(('first', 'then', 'blocks'), [
    (prompt(MAP), prompt(MAP), 4), (prompt(MAP), prompt(MAP + 'go'), 4), (prompt(MAP + 'go'), prompt(MAP + 'no'), 4),
    (prompt(MAP), prompt('x' + MAP), 0), (prompt(MAP[:CHARACTERS - 1]), prompt(MAP), 0),
    (prompt(MAP), prompt(MAP[:2 * CHARACTERS + 9]), 2), (chat(MAP, 'go'), chat(MAP, 'stop'), 4),
    (chat(MAP), prompt(MAP), 0), (prompt(''), prompt(''), 0)])
def test_the_common_beginning(first, then, blocks):
    seen = SeenPrompts()
    assert seen.common(then) == 0
    seen.add(first)
    assert seen.common(then) == blocks * CHARACTERS


def test_not_more_than_the_prompt_has():
    seen, request = SeenPrompts(), chat('a' * (CHARACTERS - 6))  # with its role it fills a block
    seen.add(request)
    assert seen.common(request) == request.characters == CHARACTERS - 6


def test_what_was_seen_longest_ago_is_forgotten(monkeypatch):
    monkeypatch.setattr(seen_prompts, 'MOST_BLOCKS', 6)
    seen, others = SeenPrompts(), [prompt(f'{i}' + MAP[:-1]) for i in range(3)]
    for request in (others[0], others[1], others[0], others[2]):
        seen.add(request)
    assert len(seen._seen) == 6 and seen.common(others[2]) == 4 * CHARACTERS and seen.common(others[1]) == 0


def test_no_text_is_kept_and_of_a_prompt_that_is_gone_nothing_but_the_hashes_of_what_was_read():
    seen, waiting = SeenPrompts(), [prompt(f'{i}' + MAP) for i in range(300)]
    chains = [seen._chain(request) for request in waiting]
    assert all(seen._chain(request) is chain for request, chain in zip(waiting, chains, strict=True)), 'made once'
    seen.add(waiting[0])
    del waiting, chains
    gc.collect()
    assert not seen._chains and len(seen._seen) == 4


def test_another_request_in_the_same_place_of_memory_is_another_prompt():
    seen = SeenPrompts()
    seen.add(prompt(MAP))
    for i in range(50):  # a freed request's identity is soon another's
        assert seen.common(prompt(f'{i}' + MAP)) == 0 and seen.common(prompt(MAP)) == 4 * CHARACTERS


def test_nothing_is_compared_again_until_another_prompt_was_seen():
    """Every event asks for all goals that wait, however long their prompts are."""
    class Counting(OrderedDict):
        asked = 0

        def __contains__(self, block):
            Counting.asked += 1
            return super().__contains__(block)

    seen, request = SeenPrompts(), prompt(MAP)
    seen._seen = Counting()
    for blocks in (0, 4):
        assert [seen.common(request) for _ in range(100)] == [blocks * CHARACTERS] * 100
        seen.add(prompt(MAP + 'go'))
    assert Counting.asked == 1 + 4
