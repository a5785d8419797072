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

"""A robot's patrol of its site: what happens, and the log that it leaves.

The robot visits one room after another. In a visit it sees objects at the room's places: for the first time, again
where it saw them last, or moved there from anywhere. Objects come into focus one after another, and most of them are
not met again in the rest of the log. A sighting in a container notes the container's state, and one of a heavy object
notes that it is heavy. Keys are noted only of containers that were found locked, and always lie at an open place.
Nothing here imports torch or rclpy.
"""

import random
from dataclasses import dataclass

STATES = ('open', 'closed', 'locked')
HEAVY = 'heavy'
ROOMS = ('kitchen', 'office', 'garage', 'hall')
OBJECTS = tuple(
    'mug wrench tape hammer bottle drill ladder rope bucket torch '
    'saw chisel glove helmet radio battery cable pump filter valve '
    'gasket bolt nut washer spring bearing clamp pliers ruler level '
    'brush broom mop sponge towel soap vase lamp candle clock '
    'book folder stapler pencil marker eraser scissors glue stamp envelope '
    'plate bowl spoon fork knife kettle pan pot tray jar '
    'apple banana lemon onion carrot bread cheese honey sugar salt '
    'ball bat racket kite puzzle robot doll drum flute guitar '
    'camera tripod lens charger tablet mouse keyboard speaker headset phone '
    'ring watch scarf hat boot umbrella pen ruby magnet prism '
    'axe anvil awl bell bench bike blanket bow broomstick bulb '
    'buckle bugle button cage cane canvas card cart-wheel chain chalk '
    'chess cigar coat coin comb cork crate crown cube cup '
    'dagger dice dish drape easel fan feather fender flag flask '
    'fork-lift funnel fuse gear gem globe gown harp hinge hoe '
    'hose iron jacket jug keg lace lantern leash lever lock '
    'loom lute mallet mask mat mirror mitten nail needle net '
    'oar oven paddle paint peg pipe'.split()
)
CONTAINERS = tuple(f'{kind}{i}' for i in range(1, 9) for kind in ('drawer', 'cabinet'))
SURFACES = tuple(f'{kind}{i}' for i in range(1, 5) for kind in ('shelf', 'table', 'hook', 'rack'))
KEYS = tuple(f'{container}-key' for container in CONTAINERS)
# Surfaces and containers alternate, so that any prefix of the list holds as many of one as of the other.
PLACES = tuple('@' + place for pair in zip(SURFACES, CONTAINERS, strict=True) for place in pair)
PLACES_PER_ROOM = len(PLACES) // len(ROOMS)
EVENTS = ('swept', 'mapped', 'dark', 'humid', 'noisy', 'locked-up')  # what may be noted of the room that is visited
PEOPLE = ('alice', 'bruno', 'chen', 'dora')  # seen at places too, and never asked for
MOST_ASKED = 32  # objects in one instruction
MOST_TOLD = 8  # objects with their places in one instruction: so many fit into a prompt's last 32 tokens
LONGEST_VISIT = 20  # records

# Objects come into focus one after another. At a share t of the log the patrol meets the objects from 1.2*t - 0.3 to
# 1.2*t + 0.1 of all objects (slope and start of both ends). So each object is met along a third of the log, and what is
# asked for may lie anywhere in it.
_FOCUS = ((1.2, -0.3), (1.2, 0.1))
_PAUSE = 0.1  # share of the log that passes at least before an object is seen again


@dataclass(frozen=True)
class World:
    """What a log may hold. A training curriculum widens it; the defaults are the whole task."""

    n_objects: int = len(OBJECTS)  # the first of OBJECTS
    n_places: int = len(PLACES)  # the first of PLACES
    move_probability: float = 0.15  # of a sighting, to be open to objects from elsewhere, which then have moved here
    missing_probability: float = 0.12  # of an object asked for, to be one that the log never names
    heavy_probability: float = 0.15  # of an object
    max_asked: int = MOST_ASKED  # objects in an instruction


def room_of(place: str) -> str:
    """Return the room that a place belongs to."""
    return ROOMS[PLACES.index(place) // PLACES_PER_ROOM]


class Patrol:
    """A log of about `n_tokens` tokens, and what is true at its end.

    records:  the log, oldest record first.
    where:    place of each object and key at its latest sighting.
    state:    of the container that an object was last seen in, or HEAVY.
    heavy:    heavy objects.
    visits:   room -> the records of its latest visit.
    """

    def __init__(self, rng: random.Random, world: World, n_tokens: int):
        self.rng, self.world = rng, world
        n_tokens = max(n_tokens, 24)  # one visit at least
        self.records: list[str] = []
        self.where: dict[str, str] = {}
        self.state: dict[str, str] = {}
        self.heavy: set[str] = set()
        self.visits: dict[str, list[str]] = {}
        self._keys_to_come: list[str] = []  # of containers that were found locked
        self._rests: dict[str, float] = {}  # object -> the token of the log before which it is not seen again
        # Each object is seen two to seven times, more in long logs. A fifth of the objects is never seen.
        n_names = min(round(0.8 * world.n_objects), max(2, round((n_tokens - 30) / 18)))
        names = rng.sample(OBJECTS[:world.n_objects], n_names)
        rooms = ROOMS[:max(1, world.n_places // PLACES_PER_ROOM)]
        n, room = 0, ''
        while not self.records or n < n_tokens - 6:
            room = rng.choice([r for r in rooms if r != room] or rooms)
            n += self._visit(room, names, n, n_tokens)

    def _visit(self, room: str, names: list[str], n: int, n_tokens: int) -> int:
        """Append one visit and return its number of tokens. `n`: tokens of the log before this visit."""
        rng = self.rng
        places = [p for p in PLACES[:self.world.n_places] if room_of(p) == room]
        wanted = min(rng.randint(3, LONGEST_VISIT), max(3, n_tokens // 30))
        header, noted, met = [f'visit {room}'], [], set()
        tokens, repeats = 5, 0  # header and end
        while len(noted) < wanted and (n + tokens < n_tokens or not noted) and repeats < 200:
            oldest, newest = (round((slope * (n + tokens) / n_tokens + start) * len(names))
                              for slope, start in _FOCUS)
            newest = max(newest, 3)
            # Now and then an object that has left the focus is met again.
            oldest = 0 if rng.random() < 0.05 else max(0, min(oldest, len(names) - 3))
            focus = names[oldest:newest]
            focus = [name for name in focus if name not in met and self._rests.get(name, 0) <= n + tokens]
            record = self._record(room, places, focus, met)
            if record is None and len(noted) >= 2:
                break
            record = record or f'{rng.choice(EVENTS)} {room}'
            if record in noted:  # a visit notes nothing twice, so that `room` has one right answer
                repeats += 1  # counted, because a tiny world may have nothing else to note
                continue
            noted.append(record)
            self._rests[record.split()[0]] = n + tokens + _PAUSE * n_tokens
            tokens += len(record.split())
        self.visits[room] = [*header, *noted, f'left {room} {len(noted)}']
        self.records += self.visits[room]
        return tokens

    def _record(self, room: str, places: list[str], focus: list[str], met: set[str]) -> str | None:
        """Return the next thing that the robot notes; None where no object in focus can be seen in this room.

        places: of the room; focus: objects that may be met; met: those already met in this visit, added to here.
        """
        rng = self.rng
        kind = rng.random() if self.where else 1.0  # every log starts with a sighting
        if kind < 0.10:
            return f'{rng.choice(EVENTS)} {room}'
        if kind < 0.25:
            return f'{rng.choice(PEOPLE)} {rng.choice(places)}'
        if self._keys_to_come and kind < 0.40:
            met.add(key := self._keys_to_come.pop(rng.randrange(len(self._keys_to_come))))
            return self._see(key, places)
        if kind < 0.30:
            seen_keys = [key for key in self.where if key in KEYS and key not in met]
            if seen_keys:
                met.add(key := rng.choice(seen_keys))
                if self.where[key] in places or rng.random() < self.world.move_probability:
                    return self._see(key, places)
        # Seen again where it lies; placed here for the first time; or moved here from another room.
        here = [name for name in focus if name not in self.where or self.where[name] in places]
        choice = focus if rng.random() < self.world.move_probability else here
        if not choice:
            return None
        met.add(name := rng.choice(choice))
        return self._see(name, places)

    def _see(self, name: str, places: list[str]) -> str:
        """See an object or key: where it was, or moved to one of the room's `places`. Return the sighting."""
        rng = self.rng
        if name not in self.where and name not in KEYS and rng.random() < self.world.heavy_probability:
            self.heavy.add(name)
        if self.where.get(name) not in places:
            # Heavy objects and keys are never in a container, so that no key needs another key.
            in_the_open = name in KEYS or name in self.heavy
            self.where[name] = rng.choice([p for p in places if not (in_the_open and p[1:] in CONTAINERS)])
            self.state.pop(name, None)
        container = self.where[name][1:]
        if name in self.heavy:
            self.state[name] = HEAVY
        elif container in CONTAINERS and name not in self.state:
            self.state[name] = rng.choice(STATES)
            key = f'{container}-key'
            if self.state[name] == 'locked' and key not in self.where and key not in self._keys_to_come:
                self._keys_to_come.append(key)
        return self.sighting(name)

    def sighting(self, name: str) -> str:
        """Return the latest sighting of an object as noted: `mug @table1`, `mug closed @drawer3`, `mug heavy @rack1`.

        What it takes to fetch the object stands right behind its name.
        """
        return ' '.join([name, *([self.state[name]] if name in self.state else []), self.where[name]])
