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

"""A patrol's log: what a visit tells, what is true at the end of the log, and how objects are spread over it."""
import functools
import itertools
import random
from collections import Counter

import numpy as np
import pytest

from timebill_ros.tasks.patrol import (
    CONTAINERS,
    EVENTS,
    KEYS,
    LONGEST_VISIT,
    OBJECTS,
    PEOPLE,
    PLACES,
    PLACES_PER_ROOM,
    ROOMS,
    STATES,
    Patrol,
    World,
    room_of,
)


@functools.cache  # most tests read the same logs, and none changes them
def patrol(seed: int, n_tokens: int, **world) -> Patrol:
    return Patrol(random.Random(f'patrol/{seed}'), World(**world), n_tokens)


def visits_of(records: list[str]) -> list[tuple[str, list[list[str]]]]:
    """Read visits from the log's text alone: (room, the records between a visit's first and its last).

    A record comes as its first word, its last word, and the words between them: for a sighting that is the object, the
    place, and perhaps a state.
    """
    visits, room = [], None
    for record in records:
        first, *rest = record.split()
        if first == 'visit':
            assert room is None, f'{record!r} within the visit of {room}'
            room, noted = rest[0], []
        elif first == 'left':
            assert rest == [room, str(len(noted))]
            visits.append((room, noted))
            room = None
        else:
            assert room is not None, f'{record!r} outside of a visit'
            noted.append([first, rest[-1], *rest[:-1]])
    assert room is None, f'the visit of {room} has no end'
    return visits


# Tokens of a log -> number of such logs. The shortest logs have a single visit.
LOGS = {9: 20, 30: 20, 100: 20, 600: 10, 4000: 3}
logs = pytest.mark.parametrize(('n_tokens', 'n_logs'), LOGS.items())


@logs
def test_every_visit_is_opened_and_closed_with_the_number_of_its_records(n_tokens, n_logs):
    for seed in range(n_logs):
        visits = visits_of(patrol(seed, n_tokens).records)
        assert visits and all(room in ROOMS and 1 <= len(noted) <= LONGEST_VISIT for room, noted in visits)
        assert all(room != following for (room, _), (following, _) in itertools.pairwise(visits))


@logs
def test_nothing_is_said_twice_in_a_visit(n_tokens, n_logs):
    for _, noted in itertools.chain(*(visits_of(patrol(seed, n_tokens).records) for seed in range(n_logs))):
        assert len({' '.join(record) for record in noted}) == len(noted)
        # A thing is seen once, since it lies still while the robot is there.
        sighted = [record[0] for record in noted if record[1].startswith('@') and record[0] not in PEOPLE]
        assert len(set(sighted)) == len(sighted)


@logs
def test_a_visit_tells_only_of_its_room(n_tokens, n_logs):
    for room, noted in itertools.chain(*(visits_of(patrol(seed, n_tokens).records) for seed in range(n_logs))):
        for subject, value, *state in noted:
            if value.startswith('@'):
                assert subject in OBJECTS + KEYS + PEOPLE and room_of(value) == room
                if subject in OBJECTS and value[1:] in CONTAINERS:
                    assert len(state) == 1 and state[0] in STATES
                else:  # only objects are heavy, and heavy objects are never in a container
                    assert state == [] or (state == ['heavy'] and subject in OBJECTS)
            else:
                assert subject in EVENTS and value == room and not state


@logs
def test_what_is_true_at_the_end_is_what_the_log_says(n_tokens, n_logs):
    for log in (patrol(seed, n_tokens) for seed in range(n_logs)):
        where, state, heavy, visits = {}, {}, set(), {}
        for room, noted in visits_of(log.records):
            visits[room] = [f'visit {room}', *(' '.join([subject, *state, value]) for subject, value, *state in noted),
                            f'left {room} {len(noted)}']
            for subject, value, *inside in noted:
                if subject in OBJECTS + KEYS:
                    # An object that is heavy once is heavy always.
                    assert (inside == ['heavy']) == (subject in heavy) or subject not in where
                    where[subject], state[subject] = value, inside
                    heavy |= {subject} if inside == ['heavy'] else set()
        assert log.where == where and log.heavy == heavy and log.visits == visits
        assert log.state == {name: inside[0] for name, inside in state.items() if inside}


@logs
def test_keys_lie_open_and_are_noted_only_of_containers_that_were_found_locked(n_tokens, n_logs):
    for seed in range(n_logs):
        locked = set()
        for _, noted in visits_of(patrol(seed, n_tokens).records):
            for subject, value, *state in noted:
                if state == ['locked']:
                    locked.add(f'{value[1:]}-key')
                assert subject not in KEYS or (value[1:] not in CONTAINERS and subject in locked)


@pytest.mark.parametrize('n_tokens', [400, 1000, 4000])
def test_the_key_of_nearly_every_locked_container_is_noted(n_tokens):
    """An object in a locked container cannot be asked for without a key in the log: that must stay the exception."""
    has_key = [f'{log.where[name][1:]}-key' in log.where for log in (patrol(seed, n_tokens) for seed in range(20))
               for name, state in log.state.items() if state == 'locked']
    assert len(has_key) > 30 and np.mean(has_key) > 0.9


@pytest.mark.parametrize(('n_tokens', 'least'), [(400, 0.2), (1000, 0.25), (4000, 0.15)])
def test_latest_sightings_are_spread_over_the_whole_log(n_tokens, least):
    """So an answer needs tokens that an eviction of the log's older part would lose."""
    places = []
    for seed in range(20):
        latest, n = {}, 0
        for record in patrol(seed, n_tokens).records:
            subject, value = record.split()[0], record.split()[-1]
            if subject in OBJECTS and value.startswith('@'):
                latest[subject] = n
            n += len(record.split())
        places += [at / n for at in latest.values()]
    assert np.mean(np.array(places) < 0.5) > least
    fifths = np.histogram(places, bins=5, range=(0, 1))[0] / len(places)
    assert fifths[1:].min() > 0.08 and fifths.max() < 0.5


def test_objects_are_seen_again_and_moved():
    seen_again = moved = stayed = 0
    for seed in range(10):
        sightings = {}
        for record in patrol(seed, 1000).records:
            subject, value = record.split()[0], record.split()[-1]
            if subject in OBJECTS and value.startswith('@'):
                sightings.setdefault(subject, []).append(value)
        seen_again += sum(len(places) > 1 for places in sightings.values())
        moved += sum(places[0] != places[-1] for places in sightings.values())
        stayed += sum(a == b for places in sightings.values() for a, b in itertools.pairwise(places))
    assert seen_again > 200 and moved > 40 and stayed > 120


def test_nothing_moves_in_a_world_without_moves():
    for seed in range(10):
        places = {}
        for record in patrol(seed, 1000, move_probability=0.0).records:
            subject, value = record.split()[0], record.split()[-1]
            if subject in OBJECTS + KEYS and value.startswith('@'):
                assert places.setdefault(subject, value) == value


@pytest.mark.parametrize(('probability', 'low', 'high'), [(0.0, 0.0, 0.0), (0.15, 0.1, 0.2), (1.0, 0.9, 1.0)])
def test_some_objects_are_heavy(probability, low, high):
    found = [patrol(seed, 1500, heavy_probability=probability) for seed in range(20)]
    n_seen = sum(name in OBJECTS for log in found for name in log.where)
    assert low <= sum(len(log.heavy) for log in found) / n_seen <= high


@pytest.mark.parametrize(('n_objects', 'n_places'), [(2, 4), (16, 8), (48, 16), (len(OBJECTS), len(PLACES))])
def test_a_world_limits_objects_and_places(n_objects, n_places):
    words = set()
    for seed in range(25):
        log = patrol(seed, 1200, n_objects=n_objects, n_places=n_places)
        words |= set(' '.join(log.records).split())
        assert sum(name in OBJECTS for name in log.where) <= max(1, round(0.8 * n_objects))  # some are never seen
    assert words & set(OBJECTS) == set(OBJECTS[:n_objects])
    assert words & set(PLACES) == set(PLACES[:n_places])
    assert words & set(ROOMS) == set(ROOMS[:max(1, n_places // PLACES_PER_ROOM)])


def test_a_long_log_holds_every_kind_of_record():
    words = Counter(' '.join(patrol(0, 4000).records).split())
    assert all(words[word] for word in (*EVENTS, *PEOPLE, *STATES, *ROOMS, *PLACES, 'heavy'))


@pytest.mark.parametrize('n_tokens', [20, 100, 1000, 4000])
def test_logs_have_the_length_asked_for(n_tokens):
    for seed in range(20 if n_tokens < 4000 else 3):
        n = sum(len(record.split()) for record in patrol(seed, n_tokens).records)
        # A log of fewer than 24 tokens has one visit all the same. No visit starts in the last 6 tokens. A record has
        # up to 3.
        assert n_tokens - 6 <= n <= max(n_tokens, 24) + 2


def test_each_room_has_places_of_its_own_half_of_them_containers():
    assert len(PLACES) == len(set(PLACES)) == PLACES_PER_ROOM * len(ROOMS)
    for room in ROOMS:
        own = [place for place in PLACES if room_of(place) == room]
        assert len(own) == PLACES_PER_ROOM and sum(place[1:] in CONTAINERS for place in own) == PLACES_PER_ROOM // 2
    for n in range(1, len(PLACES) + 1):  # a small world has the first n places
        assert 0 <= sum(1 if place[1:] not in CONTAINERS else -1 for place in PLACES[:n]) <= 1


def test_names_are_those_of_one_thing():
    names = [*OBJECTS, *CONTAINERS, *KEYS, *PLACES, *ROOMS, *EVENTS, *PEOPLE, *STATES, 'visit', 'left', 'heavy']
    assert len(set(names)) == len(names) and not any(len(name.split()) != 1 for name in names)


def test_the_same_stream_gives_the_same_log():
    again = patrol.__wrapped__(1, 500)  # a new one, not the cached one
    assert again.records == patrol(1, 500).records != patrol(2, 500).records


def test_a_world_with_next_to_nothing_in_it_still_has_a_log():
    assert len(visits_of(patrol(0, 600, n_objects=1, n_places=1).records)) > 3
