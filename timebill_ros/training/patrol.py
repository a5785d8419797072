"""A robot's patrol of its site: what happens, and the log that it leaves.

The robot visits one room after another. In a visit it sees objects at the room's places: for the first time, again
where it saw them last, or moved there from anywhere. Objects come into focus one after another, and most of them are
not met again for the rest of the log. A container's state is noted with the object in it; the key of a container that
was found locked is noted when it is seen, always at an open place; that an object is heavy is noted once. Nothing here
imports torch or rclpy.
"""

import random
from dataclasses import dataclass

STATES = ('open', 'closed', 'locked')
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
    'ring watch scarf hat boot umbrella'.split()
)
CONTAINERS = tuple(f'{kind}{i}' for i in range(1, 9) for kind in ('drawer', 'cabinet'))
SURFACES = tuple(f'{kind}{i}' for i in range(1, 5) for kind in ('shelf', 'table', 'hook', 'rack'))
KEYS = tuple(f'{container}-key' for container in CONTAINERS)
# Surfaces and containers alternate, so that any prefix of the list holds as many of one as of the other.
PLACES = tuple('@' + place for pair in zip(SURFACES, CONTAINERS, strict=True) for place in pair)
PLACES_PER_ROOM = len(PLACES) // len(ROOMS)
EVENTS = ('swept', 'mapped', 'dark', 'humid', 'noisy', 'locked-up')  # of the room that is visited
PEOPLE = ('alice', 'bruno', 'chen', 'dora')  # seen at places too, and never asked for
MOST_ASKED = 32  # objects in one instruction
LONGEST_VISIT = 20  # records

_FOCUS = 12  # objects that a patrol meets in one stretch of the log


@dataclass(frozen=True)
class World:
    """What a log may hold. A training curriculum widens it; the defaults are the whole task."""

    n_objects: int = len(OBJECTS)
    n_places: int = len(PLACES)
    move_probability: float = 0.3
    missing_probability: float = 0.12
    heavy_probability: float = 0.15
    max_asked: int = MOST_ASKED


def room_of(place: str) -> str:
    """The room that a place belongs to."""
    return ROOMS[PLACES.index(place) // PLACES_PER_ROOM]


class Patrol:
    """A log of about `n_tokens` tokens, and what is true at its end."""

    def __init__(self, rng: random.Random, world: World, n_tokens: int):
        self.rng, self.world = rng, world
        self.records: list[str] = []
        self.where: dict[str, str] = {}  # objects and keys, by their latest sighting
        self.state: dict[str, str] = {}  # of the container that an object was last seen in
        self.heavy: set[str] = set()
        self.visits: dict[str, list[str]] = {}  # the latest visit of each room
        self._unsaid: list[tuple[str, str]] = []  # facts still to be noted: (object, 'heavy') and (key, '')
        # About three sightings of each object; a fifth of the objects is never seen.
        n_names = min(round(0.8 * world.n_objects), max(2, round(n_tokens / 18)))
        names = rng.sample(OBJECTS[:world.n_objects], n_names)
        rooms = ROOMS[:max(1, world.n_places // PLACES_PER_ROOM)]
        n, room = 0, ''
        while n < n_tokens - 8:
            room = rng.choice([r for r in rooms if r != room] or rooms)
            n += self._visit(room, names, n, n_tokens)

    def _visit(self, room: str, names: list[str], n: int, n_tokens: int) -> int:
        """Appends one visit. Returns its tokens."""
        rng = self.rng
        places = [p for p in PLACES[:self.world.n_places] if room_of(p) == room]
        wanted = min(rng.randint(3, LONGEST_VISIT), max(3, n_tokens // 30))
        header, noted, met = [f'visit {room}'], [], set()
        tokens = 7  # header and end, with their separators
        while len(noted) < wanted and (n + tokens < n_tokens or not noted):
            # Objects come into focus one after another, and most are never met again: what is asked for may lie
            # anywhere in the log.
            first = round((n + tokens) / n_tokens * max(0, len(names) - _FOCUS))
            focus = names[:first + _FOCUS] if rng.random() < 0.1 else names[first:first + _FOCUS]
            record = self._record(room, places, focus, met)
            if record in noted:  # said once in a visit, so that a visit can be told from its records
                continue
            noted.append(record)
            tokens += len(record.split()) + 1
        self.visits[room] = [*header, *noted, f'left {room} {len(noted)}']
        self.records += self.visits[room]
        return tokens

    def _record(self, room: str, places: list[str], focus: list[str], met: set[str]) -> str:
        rng = self.rng
        kind = rng.random() if self.where else 1.0  # every log starts with a sighting
        if kind < 0.12:
            return f'{room} {rng.choice(EVENTS)}'
        if kind < 0.20:
            return f'{rng.choice(PEOPLE)} {rng.choice(places)}'
        if self._unsaid and kind < 0.45:
            name, fact = self._unsaid.pop(rng.randrange(len(self._unsaid)))
            if fact:
                self.heavy.add(name)
                return f'{name} {fact}'
            met.add(name)
            return self._see(name, places)
        if kind < 0.50:
            seen_keys = [key for key in self.where if key in KEYS and key not in met]
            if seen_keys:
                met.add(key := rng.choice(seen_keys))
                if self.where[key] in places or rng.random() < self.world.move_probability:
                    return self._see(key, places)
        # Seen again where it lies; placed here for the first time; or moved here from another room.
        fresh = [name for name in focus if name not in met]
        here = [name for name in fresh if name not in self.where or self.where[name] in places]
        choice = fresh if rng.random() < self.world.move_probability else here
        if not choice:
            return f'{room} {rng.choice(EVENTS)}'
        met.add(name := rng.choice(choice))
        if name not in self.where and rng.random() < self.world.heavy_probability:
            self._unsaid.append((name, 'heavy'))
        return self._see(name, places)

    def _see(self, name: str, places: list[str]) -> str:
        """A sighting: where the object was, or where it has been moved to."""
        rng, old = self.rng, self.where.get(name)
        stays = old in places and rng.random() >= self.world.move_probability
        if name in KEYS:  # keys lie open, so that no key needs another
            self.where[name] = old if stays else rng.choice([p for p in places if p[1:] not in CONTAINERS])
            return f'{name} {self.where[name]}'
        if not stays:
            self.where[name] = rng.choice(places)
            self.state.pop(name, None)
        container = self.where[name][1:]
        if container not in CONTAINERS:
            return f'{name} {self.where[name]}'
        if name not in self.state:
            self.state[name] = rng.choice(STATES)
        key = f'{container}-key'
        if self.state[name] == 'locked' and key not in self.where and (key, '') not in self._unsaid:
            self._unsaid.append((key, ''))
        return f'{name} {self.where[name]} {self.state[name]}'
