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

"""The store of prompts: what is found, what goes first, and that states come back as they were put in."""
import random

import pytest
import torch

from timebill_ros.inference.block_copies import copy_back, copy_blocks
from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.prefix_store import PrefixStore, block_bytes

UNIT, CONTEXT = 4, 256
A, B, C = (list(range(start, start + 100)) for start in (0, 1000, 2000))


def state_of(layer, kind, position, token):
    """The state that stands for a token at a position, different in every layer and for keys and values."""
    return torch.tensor([[float(layer), float(kind)], [float(position), float(token)]])  # [H_kv, D]


class Bench:
    """A cache of two layers, one of them with a sliding window, and a store for it."""

    def __init__(self, n_blocks=50):
        self.cache = SlotCache(CONTEXT, [None, 8])
        for layer in self.cache.layers:
            layer.lazy_initialization(torch.zeros(1, 2, 1, 2))
        self.store = PrefixStore(self.cache, UNIT, n_blocks)

    def fill(self, ids, first=0):
        """Do what prefill does for the tokens from `first` on."""
        for number, layer in enumerate(self.cache.layers):
            assert layer.length == first
            new = [torch.stack([state_of(number, kind, i, ids[i]) for i in range(first, len(ids))], dim=1)[None]
                   for kind in (0, 1)]
            layer.update(*new)

    def read(self, ids):
        """Read a prompt as the engine does; return how many tokens were known."""
        self.cache.reset()
        first = self.store.take(ids)
        self.fill(ids, first)
        self.store.put(ids)
        self.check(ids)
        return first

    def check(self, ids):
        self.store.check()
        for number, layer in enumerate(self.cache.layers):
            for kind, states in enumerate(layer.filled()):
                expected = torch.stack([state_of(number, kind, i, t) for i, t in enumerate(ids)], dim=1)[None]
                assert torch.equal(states, expected)


@pytest.mark.parametrize(('first', 'then', 'known'), [
    (A, A, 68), (A, A[:60], 28), (A[:50], A, 48), (A, A[:40] + B, 40), (A, A[:43] + B, 40), (A, A[:3] + B, 0),
    (A, B, 0), (A, A[:MAX_WINDOW], 0), (A, A[:MAX_WINDOW + UNIT], UNIT), (A[:3], A, 0)])
def test_the_longest_common_beginning_is_known_but_for_the_last_tokens(first, then, known):
    bench = Bench()
    assert bench.read(first) == 0
    assert bench.store.known(then) == known
    assert bench.read(then) == known


def test_prompts_that_begin_alike_share_blocks():
    bench = Bench()
    bench.read(A)
    assert len(bench.store._free) == 50 - 25
    grown = A + B[:10]
    assert bench.read(grown) == 76 and len(bench.store._free) == 50 - 27
    assert (bench.store.held(A), bench.store.held(grown), bench.store.held(A[:50] + B)) == (100, 108, 48)


def test_what_was_used_longest_ago_goes_first_and_the_end_of_a_prompt_before_its_beginning():
    bench = Bench(n_blocks=50)
    bench.read(A)
    bench.read(B)  # the store is full
    bench.read(A)  # as a whole: its last blocks are touched too
    bench.read(C[:40])
    assert (bench.store.held(A), bench.store.held(B), bench.store.held(C[:40])) == (100, 60, 40)
    assert bench.read(B) == 60


def test_of_a_prompt_longer_than_the_store_the_beginning_is_kept():
    bench = Bench(n_blocks=10)
    bench.read(A)
    assert bench.store.held(A) == 40
    assert bench.read(A) == 40 and bench.store.held(A) == 40
    bench.read(B[:50])
    assert (bench.store.held(A), bench.store.held(B)) == (0, 40)


def test_what_is_pinned_stays():
    bench = Bench(n_blocks=20)
    bench.fill(A[:40])
    assert bench.store.put(A[:40], pin=True) == 40
    for ids in (B, C, A[:20] + C, A):
        bench.read(ids)
        assert bench.store.held(A[:40]) == 40
    bench.cache.reset()
    bench.fill(B)
    assert bench.store.put(B, pin=True) == 40  # there is no room for more
    bench.cache.reset()
    bench.fill(C)
    assert bench.store.put(C) == 0
    bench.store.clear()
    assert bench.store.held(A) == 0
    bench.store.check()


def test_eviction_and_decoding_leave_the_store_alone():
    bench = Bench()
    bench.read(A)
    bench.fill(A + [7, 8, 9, 10], len(A))  # generated
    bench.cache.layers[0].keep(torch.arange(0, 100, 2).expand(2, -1))
    assert bench.store.held(A + [7, 8, 9, 10]) == 100
    assert bench.read(A + [7, 8, 9, 10] + B) == 100


def test_thousands_of_mixed_prompts_never_bring_back_a_wrong_state():
    """The bench compares all states after each prompt, and the store's invariants."""
    draw, bench = random.Random(0), Bench(n_blocks=23)
    known = 0
    for _ in range(300):
        ids = [token for _ in range(draw.randrange(1, 6)) for token in draw.choice((A, B, C))[:draw.randrange(1, 40)]]
        known += bench.read(ids[:CONTEXT])
    assert known > 1000


def test_the_area_is_allocated_once_and_its_size_is_told():
    bench = Bench(n_blocks=10)
    assert block_bytes(bench.cache, UNIT) == UNIT * 2 * 2 * (2 * 2 * 4)  # layers, keys and values, heads * D * float32
    held = sum(area.numel() * area.element_size() for areas in bench.store._areas for area in areas)
    assert held == 10 * block_bytes(bench.cache, UNIT)
    before = [area.data_ptr() for areas in bench.store._areas for area in areas]
    for ids in (A, B, C):
        bench.read(ids)
    assert before == [area.data_ptr() for areas in bench.store._areas for area in areas]


def test_a_prompt_lies_in_one_piece_where_there_is_room():
    bench = Bench()
    bench.read(A[:60])
    bench.read(A)
    assert [block.number for block in bench.store.find(A)] == list(range(25))


@pytest.mark.parametrize(('spoil', 'sentence'), [
    (lambda store: store._free.pop(), 'accounts for'), (lambda store: store._known.popitem(), 'finds'),
    (lambda store: store._by_age.move_to_end(next(iter(store._by_age))), 'outlive')])
def test_a_store_that_contradicts_itself_is_noticed(spoil, sentence):
    bench = Bench()
    bench.read(A)
    spoil(bench.store)
    with pytest.raises(ValueError, match=sentence):
        bench.store.check()


def test_what_is_lent_is_no_prompts_and_comes_back():
    bench = Bench(n_blocks=30)
    bench.read(A)
    bench.read(B[:20])
    assert bench.store.lendable == 30 * UNIT
    bench.cache.reset()
    bench.fill(C[:50])
    bench.cache.layers[0].keep(torch.arange(31).repeat(2, 1))  # evicted, unlike the layer with a sliding window
    before = [states.clone() for layer in bench.cache.layers for states in layer.filled()]
    places, lengths = bench.store.lend(), bench.cache.lengths
    assert len(places) == 13 and bench.store.lendable == 17 * UNIT
    bench.store.check()
    for ids in (A, B, C):
        bench.read(ids)
    bench.store.clear()
    bench.cache.reset()
    bench.store.copy_back(places, lengths)
    after = [states for layer in bench.cache.layers for states in layer.filled()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    bench.store.give_back(places)
    bench.store.check()
    assert bench.store.lendable == 30 * UNIT


def test_nothing_is_lent_where_there_is_no_room():
    bench = Bench(n_blocks=10)
    bench.read(A[:20])
    bench.cache.reset()
    bench.fill(B[:41])
    assert bench.store.lend() is None and bench.store.held(A[:20]) == 20, 'nothing was dropped for it'


@pytest.mark.parametrize('by_head', [True, False], ids=['as on a CPU', 'as on a GPU'])
@pytest.mark.parametrize('places', [[0], [4, 1, 5], [5, 4, 3, 2, 1, 0]])
def test_blocks_are_copied_wherever_they_lie(by_head, places):
    n, slots, area = len(places), torch.randn(3, 30, 5), torch.zeros(3, 6 * UNIT, 5)
    part = slots[:, 2:2 + n * UNIT]  # a cache has more slots than the prompt
    copy_blocks(part, area, torch.tensor(places), UNIT, by_head=by_head)
    for i, place in enumerate(places):
        assert torch.equal(area[:, place * UNIT:(place + 1) * UNIT], part[:, i * UNIT:(i + 1) * UNIT])
    assert area.count_nonzero() == part.count_nonzero(), 'nothing else is written'
    other = torch.zeros(3, 30, 5)
    copy_back(other[:, 1:1 + n * UNIT], area, torch.tensor(places), UNIT, by_head=by_head)
    assert torch.equal(other[:, 1:1 + n * UNIT], part) and other.count_nonzero() == part.count_nonzero()


def test_prompts_are_found_again_whose_blocks_lie_scattered():
    bench = Bench(n_blocks=60)
    draw = random.Random(1)
    bench.store._free = draw.sample(bench.store._free, 60)  # a heap gives the lowest first, and this is none
    for ids in (A, B, A[:50] + C, A, B):
        bench.read(ids)
    numbers = [block.number for block in bench.store.find(A)]
    assert len(numbers) == 25 and sum(b != a + 1 for a, b in zip(numbers, numbers[1:], strict=False)) > 5
    assert bench.read(A) == 68 and bench.read(B) == 68


def without_memory(patch, store):
    """Have copies into the store fail."""
    copy = store._copy

    def fail(numbers, *arguments, **options):
        if numbers and not options.get('back'):
            raise MemoryError
        copy(numbers, *arguments, **options)
    patch.setattr(store, '_copy', fail)


@pytest.mark.parametrize('method', ['put', 'lend', 'hold'])
@pytest.mark.parametrize('known', [3, 10, 50])
def test_where_a_copy_fails_nothing_is_found_that_is_not_there(method, known):
    bench, ids = Bench(n_blocks=30), A[:50]
    bench.read(B)
    bench.read(ids[:known])
    bench.cache.reset()
    bench.fill(ids)
    with pytest.MonkeyPatch.context() as patch:
        without_memory(patch, bench.store)
        if method == 'put' and known == 50:
            assert bench.store.put(ids) == 48  # there is nothing to copy
        else:
            with pytest.raises(MemoryError):
                getattr(bench.store, method)(*(() if method == 'lend' else (ids,)))
    bench.store.check()
    assert bench.store.held(ids) <= known and bench.store.lendable == 30 * UNIT
    assert not bench.store._lent and not bench.store._holds
    assert bench.read(ids) <= known and bench.read(B) > 0  # with the right states


def test_a_prompt_is_forgotten_but_for_what_others_need():
    bench = Bench()
    for ids in (A, A[:40] + B[:30], C[:20]):
        bench.read(ids)
    bench.store.forget(A)
    assert (bench.store.held(A), bench.store.held(A[:40] + B[:30]), bench.store.held(C[:20])) == (40, 68, 20)
    bench.store.forget(A[:40] + B[:30])
    assert bench.store.held(A) == 0 and bench.store.held(C[:20]) == 20
    bench.cache.reset()
    bench.fill(A[:50])
    assert bench.store.put(A[:20], pin=True) == 20
    held = bench.store.hold(A[:50])
    bench.store.forget(A[:50])
    assert bench.store.held(A[:50]) == 48, 'a goal may need it'
    bench.store.let_go(held)
    bench.store.forget(A[:50])
    assert bench.store.held(A[:50]) == 20
    bench.store.check()
