"""Site-log planning: the task that the embedded model is trained for and scored on.

A robot's world log is a list of short records, oldest first. Objects are seen at places, seen again, and
moved; drawers and cabinets are found open, closed or locked; some records are about nothing in particular.
An instruction follows, and the answer is a plan with one step per line:

    log : mug @shelf3 ; drawer5 closed ; wrench @drawer5 ; floor swept ; mug @table1 ;
    task : bring mug wrench tape

    mug @table1                the latest sighting counts
    take mug
    wrench @drawer5            a container's state is looked up before it is used
    drawer5 closed
    open drawer5
    take wrench
    tape missing               never seen in this log

Families: `find` (one object: its place, then `go` there), `list` (several objects, one line each) and `bring`
(the plan above). A locked container costs two steps (`unlock`, `open`), a closed one costs one, an open one
none; containers shut themselves, so that every object of a plan finds its container as the log left it. How
long an answer is can therefore be known only by reading the log.

Words are separated by single spaces and lines by a newline; every word is one token of the tokenizer that
`timebill_ros.training.tokenizer` builds from `vocabulary()`. Nothing here imports torch or rclpy.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

FAMILIES = ('find', 'list', 'bring')
SPLITS = ('train', 'validation', 'calibration', 'test')
STATES = ('open', 'closed', 'locked')

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
# Surfaces and containers alternate, so that any prefix of the list holds as many of one as of the other.
PLACES = tuple('@' + place for pair in zip(SURFACES, CONTAINERS, strict=True) for place in pair)
EVENTS = ('floor swept', 'map saved', 'person passed', 'door opened', 'door closed', 'light dimmed')

# 'log :', the newline, 'task :' and the family's name.
_FRAME_TOKENS = 6
_RECORD_TOKENS = 3


@dataclass(frozen=True)
class World:
    """What a log may hold. A training curriculum widens it; the defaults are the whole task."""

    n_objects: int = len(OBJECTS)
    n_places: int = len(PLACES)
    move_probability: float = 0.3
    missing_probability: float = 0.12
    max_asked: int = 12


@dataclass(frozen=True)
class SiteLogTask:
    """One log with one instruction and the only right answer to it."""

    family: str
    log: str
    instruction: str
    steps: tuple[str, ...]
    split: str
    seed: int

    @property
    def content(self) -> str:
        """The user message: log, then instruction."""
        return f'log : {self.log}\ntask : {self.instruction}'

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt as chat messages, for `tokenizer.apply_chat_template`."""
        return [{'role': 'user', 'content': self.content}]

    @property
    def answer(self) -> str:
        """The reference plan, one step per line, without a newline at the end."""
        return '\n'.join(self.steps)

    @property
    def n_tokens(self) -> int:
        """Tokens of `content` (a newline is one too), without the chat template's own."""
        return count_tokens(self.content)

    @property
    def n_answer_tokens(self) -> int:
        """Tokens of `answer`, with the end-of-message token that closes it."""
        return count_tokens(self.answer) + 1


def count_tokens(text: str) -> int:
    """Tokens of a text in this language: one per word and one per newline."""
    return len(text.split()) + text.count('\n')


def vocabulary() -> list[str]:
    """Every word of the language and the newline, in a fixed order (the order of token ids)."""
    words = ['\n', 'log', 'task', ':', ';', 'take', 'go', 'unlock', 'missing', *FAMILIES, *STATES]
    words += [word for event in EVENTS for word in event.split()]
    return list(dict.fromkeys([*words, *OBJECTS, *CONTAINERS, *PLACES]))


def generate(
    seed: int, *, split: str = 'train', family: str | None = None, n_tokens: int = 400,
    n_asked: int | None = None, world: World | None = None,
) -> SiteLogTask:
    """One task, the same for the same arguments.

    seed:      any non-negative integer. Splits draw from separate random streams, so equal seeds of two
               splits give unrelated logs.
    family:    one of FAMILIES, or None to draw one.
    n_tokens:  length of the prompt's content in tokens, reached within one record (at least 24).
    n_asked:   number of objects in the instruction, or None to draw it; `find` always asks for one. It is
               lowered where the log has too few objects.

    Raises ValueError for an unknown split or family, a negative seed, or n_tokens below 24.
    """
    if split not in SPLITS:
        raise ValueError(f'unknown split {split!r}: expected one of {SPLITS}')
    if family is not None and family not in FAMILIES:
        raise ValueError(f'unknown family {family!r}: expected one of {FAMILIES}')
    if seed < 0:
        raise ValueError(f'seed must not be negative, got {seed}')
    if n_tokens < 24:
        raise ValueError(f'n_tokens must be at least 24, got {n_tokens}')
    world = world or World()
    rng = random.Random(f'{split}/{seed}')
    family = family or rng.choices(FAMILIES, weights=(2, 3, 5))[0]
    if family == 'find':
        n_asked = 1
    elif n_asked is None:
        n_asked = rng.randint(1, world.max_asked)
    n_records = max(4, (n_tokens - _FRAME_TOKENS - n_asked) // _RECORD_TOKENS)
    records, where, state = _simulate(rng, n_records, world)
    asked = _choose_objects(rng, family, n_asked, where, state, world)
    steps = [step for name in asked for step in _steps_for(family, name, where, state)]
    log, instruction = ' ; '.join(records) + ' ;', ' '.join([family, *asked])
    return SiteLogTask(family, log, instruction, tuple(steps), split, seed)


def _simulate(
    rng: random.Random, n_records: int, world: World,
) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Records of a log, with the place of each object and the state of each container at its end."""
    # About three sightings for each object.
    names = rng.sample(OBJECTS[:world.n_objects], min(world.n_objects, max(2, round(n_records * 0.72 / 3))))
    places = PLACES[:world.n_places]
    records: list[str] = []
    where: dict[str, str] = {}
    state: dict[str, str] = {}
    for _ in range(n_records):
        kind = rng.random()
        # Only containers that hold something are looked at: the others cannot matter.
        used = [place[1:] for place in where.values() if place[1:] in CONTAINERS] if kind < 0.28 else []
        if kind < 0.04:
            records.append(rng.choice(EVENTS))
        elif used:
            name = rng.choice(used)
            if name not in state or rng.random() < world.move_probability:
                state[name] = rng.choice(STATES)
            records.append(f'{name} {state[name]}')
        else:
            name = rng.choice(names)
            if name not in where or rng.random() < world.move_probability:
                where[name] = rng.choice(places)
            records.append(f'{name} {where[name]}')
    return records, where, state


def _choose_objects(
    rng: random.Random, family: str, n_asked: int, where: dict[str, str], state: dict[str, str],
    world: World,
) -> list[str]:
    """Objects of the instruction, each once: seen ones, and now and then one that the log never names."""
    seen = sorted(where)
    if family == 'bring':  # a plan needs the state of every container that it opens
        seen = [name for name in seen if where[name][1:] not in CONTAINERS or where[name][1:] in state]
    unseen = [name for name in OBJECTS[:world.n_objects] if name not in where]
    rng.shuffle(seen)
    rng.shuffle(unseen)
    asked: list[str] = []
    while len(asked) < n_asked and (seen or unseen):
        missing = rng.random() < world.missing_probability
        if missing and unseen:
            asked.append(unseen.pop())
        elif seen:
            asked.append(seen.pop())
        elif asked:
            break
        else:
            asked.append(unseen.pop())
    return asked


def _steps_for(family: str, name: str, where: dict[str, str], state: dict[str, str]) -> list[str]:
    """Lines of the answer that deal with one object."""
    if name not in where:
        return [f'{name} missing']
    steps = [f'{name} {where[name]}']
    if family == 'list':
        return steps
    if family == 'find':
        return [*steps, f'go {where[name]}']
    container = where[name][1:]
    if container in CONTAINERS:
        steps.append(f'{container} {state[container]}')
        if state[container] == 'locked':
            steps.append(f'unlock {container}')
        if state[container] != 'open':
            steps.append(f'open {container}')
    steps.append(f'take {name}')
    return steps


def steps_of(text: str) -> list[str]:
    """Lines of an answer with the spaces of each put in order; empty lines are left out."""
    return [' '.join(line.split()) for line in text.splitlines() if line.strip()]


def step_accuracy(task: SiteLogTask, text: str) -> float:
    """Share of the reference's steps that `text` holds in the reference's order, from 0 to 1.

    This is the longest common subsequence of lines over the number of reference steps. A line counts only
    whole, so the cut line of a truncated answer is wrong; an extra step costs nothing here (`exact_match`
    sees it).
    """
    given, wanted = steps_of(text), task.steps
    longest = [0] * (len(wanted) + 1)  # longest[j]: common subsequence of the lines so far and wanted[:j]
    for line in given:
        previous = 0
        for j, step in enumerate(wanted, start=1):
            diagonal, previous = previous, longest[j]
            longest[j] = diagonal + 1 if line == step else max(longest[j], longest[j - 1])
    return longest[-1] / len(wanted)


def exact_match(task: SiteLogTask, text: str) -> bool:
    """Whether `text` is the reference plan, step for step and with nothing added."""
    return tuple(steps_of(text)) == task.steps


def write_jsonl(tasks: list[SiteLogTask], path: str | Path) -> None:
    """One JSON object per line: the task's fields, with `messages` and `answer` for other tools."""
    with open(path, 'w', encoding='utf-8') as file:
        for task in tasks:
            file.write(json.dumps({**asdict(task), 'messages': task.messages, 'answer': task.answer}) + '\n')


def read_jsonl(path: str | Path) -> list[SiteLogTask]:
    """Tasks that `write_jsonl` wrote. Raises ValueError naming the line that is not a task."""
    tasks = []
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                tasks.append(SiteLogTask(row['family'], row['log'], row['instruction'], tuple(row['steps']),
                                         row['split'], row['seed']))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f'{path}, line {number}: not a site-log task ({error!r})') from error
    return tasks
