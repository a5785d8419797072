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

"""Reading a prompt in chunks: which tokens come when, where one may stop, and what is waited for."""
import contextlib

import pytest
import torch

from timebill_ros.inference.chunks import read_in_chunks, to_border
from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.layer_stop import Stopped
from timebill_ros.inference.query_recorder import QueryRecorder
from timebill_ros.inference.streams import Event, Stream

IDS = list(range(10, 20))


class Journal(Stream):
    """A step and a stream that write down what happens to them."""

    def __init__(self):
        self.happened, self.events = [], 0

    def __call__(self, token, position):
        self.happened.append(token[0].tolist())
        assert position[0].tolist() == [i - 10 for i in token[0].tolist()]
        return torch.tensor(float(token[0, -1])), torch.zeros(2)

    def event(self):
        self.events += 1
        journal, name = self, self.events

        class Told(Event):
            recorded = False

            def record(self):
                self.recorded = True

            def wait(self):
                if self.recorded:
                    journal.happened.append(f'wait {name}')

        return Told()


def read(journal, chunk_tokens, should_stop=lambda: False, around_last=None):
    return read_in_chunks(journal, IDS, torch.device('cpu'), journal, chunk_tokens=chunk_tokens,
                          should_stop=should_stop, around_last=around_last or contextlib.nullcontext())


@pytest.mark.parametrize(('chunk_tokens', 'happens'), [
    (10, [IDS]), (50, [IDS]), (6, [IDS[:6], IDS[6:]]), (5, [IDS[:5], IDS[5:]]),
    (3, [IDS[:3], IDS[3:6], 'wait 1', IDS[6:9], 'wait 2', IDS[9:]])])
def test_a_device_is_given_one_chunk_while_it_computes_another(chunk_tokens, happens):
    journal = Journal()
    logits, hidden = read(journal, chunk_tokens)
    assert journal.happened == happens and (float(logits), len(hidden)) == (19, 2)


@pytest.mark.parametrize(('answers', 'n_chunks'), [([True], 1), ([False, True], 2), ([False, False, True], 3)])
def test_one_may_stop_between_chunks_and_not_before_the_first(answers, n_chunks):
    journal, left = Journal(), iter(answers)
    with pytest.raises(Stopped):
        read(journal, 3, lambda: next(left))
    assert sum(isinstance(entry, list) for entry in journal.happened) == n_chunks


@pytest.mark.parametrize('chunk_tokens', [3, 5, 10])
def test_what_is_around_the_last_chunk_is_around_no_other(chunk_tokens):
    journal = Journal()

    @contextlib.contextmanager
    def around():
        journal.happened.append('enter')
        yield
        journal.happened.append('leave')

    read(journal, chunk_tokens, around_last=around())
    last = IDS[(len(IDS) - 1) // chunk_tokens * chunk_tokens:]
    assert journal.happened[-3:] == ['enter', last, 'leave'] and journal.happened.count('enter') == 1


@pytest.mark.parametrize(('chunk_tokens', 'first', 'chunks'), [
    (10, 4, [IDS[4:]]), (3, 3, [IDS[3:6], IDS[6:9], IDS[9:]]), (3, 4, [IDS[4:6], IDS[6:9], IDS[9:]]),
    (4, 9, [IDS[9:]])])
def test_after_what_is_known_chunks_end_where_they_would_without_it(chunk_tokens, first, chunks):
    journal = Journal()
    read_in_chunks(journal, IDS, torch.device('cpu'), journal, chunk_tokens=chunk_tokens, first=first,
                   should_stop=lambda: False, around_last=contextlib.nullcontext())
    assert [entry for entry in journal.happened if isinstance(entry, list)] == chunks


def test_a_prompt_of_which_everything_is_known_is_none():
    with pytest.raises(ValueError, match='not read yet'):
        read_in_chunks(Journal(), IDS, torch.device('cpu'), Journal(), chunk_tokens=3, first=10,
                       should_stop=lambda: False, around_last=contextlib.nullcontext())


@pytest.mark.parametrize('layers_done', [0, 1, 2, 3])
def test_a_chunk_that_not_all_layers_have_read_is_forgotten(layers_done):
    cache, recorders = SlotCache(40, [None, 8, None]), {i: QueryRecorder(4) for i in range(3)}

    def read(layers, n):
        for i in layers:
            cache.layers[i].update(torch.randn(1, 2, n, 4), torch.randn(1, 2, n, 4))
            recorders[i].push(torch.randn(1, 2, n, 4), 1.0)

    read(range(3), 10)
    before = [recorders[i].queries for i in range(3)]
    read(range(layers_done), 6)
    whole = layers_done == 3
    assert to_border(cache, recorders) == (16 if whole else 10) == cache.lengths[0]
    assert len(set(cache.lengths)) == 1
    assert all((recorders[i].queries is before[i]) != whole for i in range(3))
