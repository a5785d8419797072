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

"""Site-log planning: the task that the embedded model is trained for and measured on.

A robot patrols four rooms and keeps a log, oldest record first (patrol.py). Objects are seen at places, seen again,
moved and forgotten. A sighting in a drawer or cabinet also notes the state that the container was left in; one of a
heavy object notes that it is heavy. Keys are noted on their own, and some records are about nothing that anybody asks
for. An instruction follows, and the answer has one step per line:

    log : visit kitchen mug @shelf1 saw locked @drawer1 left kitchen 2 visit office swept office
    mug open @drawer3 ladder heavy @hook2 drawer1-key @table2 left office 4
    task : bring mug ladder tape

    mug open @drawer3           the latest sighting counts
    take mug
    ladder heavy @hook2         a heavy object needs the cart
    fetch cart
    load ladder
    return cart
    tape not seen               an object that the log never names
    report tape

(The log is a single line. A container is in the state noted at the object's latest sighting, and shuts itself after
use, so the steps for one object do not depend on those for another.) The families of instructions, and what determines
the length of the answer:

    find    one object: where it was last seen, then `go` there                              4 to 7 tokens
    list    where each of several objects was last seen                                      their number
    bring   the plan above; a closed container is opened, a locked one needs its key, which
            is somewhere else                                                                what the log says
    room    the latest visit of a room: how many records, then each of them                  that visit
    route   `take` for objects whose places the instruction gives                            their number
    report  where each of several objects was last seen, with notes on it                    chance

The length of a report is random given the prompt. Its first line, the mode, is `full` with probability
FULL_SHARE[tone] and `brief` otherwise; the instruction gives the tone, `quick` or `careful`. An object that was seen
gets notes of NOTE_TOKENS tokens each: a first one with probability MORE_NOTES[mode] (certainly in a full report), and
after each note another with probability MORE_NOTES[mode]. `site_log_lengths.length_law` is the distribution that
follows for an answer's length. (Greedy decoding takes the likelier mode and never a second note, so the lengths of
reports can only be measured at temperature 1.)

Words are separated by single spaces and lines by a newline. Every word is one token of the tokenizer that
`timebill_ros.training.word_tokenizer` builds from `vocabulary()`. Splits share no log, because each draws from a random
stream of its own. The split `shifted` has families in other proportions, longer logs, and phrasings that no other split
has. Nothing here imports torch or rclpy.
"""

import random
from dataclasses import dataclass

from timebill_ros.tasks.patrol import (
    CONTAINERS,
    EVENTS,
    HEAVY,
    KEYS,
    LONGEST_VISIT,
    MOST_TOLD,
    OBJECTS,
    PEOPLE,
    PLACES,
    ROOMS,
    STATES,
    Patrol,
    World,
)

# Families and their shares: in all splits but `shifted`, and in `shifted`.
MIX = {'find': 0.10, 'list': 0.15, 'bring': 0.25, 'room': 0.12, 'route': 0.08, 'report': 0.30}
SHIFTED_MIX = {'find': 0.20, 'list': 0.10, 'bring': 0.40, 'room': 0.15, 'route': 0.05, 'report': 0.10}
FAMILIES = tuple(MIX)
SPLITS = ('train', 'validation', 'calibration', 'test', 'shifted')
# Range of prompt lengths in tokens, drawn log-uniformly.
LENGTHS, SHIFTED_LENGTHS = (200, 4000), (1500, 5000)
MAX_ANSWER_TOKENS = 400  # of the steps of an answer; objects that would make them longer are not asked for

PHRASINGS = ('{task} {things}', 'please {task} {things}', 'now {task} {things}', '{task} {things_and}',
             '{task} {things} please', '{task} {things} now')
SHIFTED_PHRASINGS = ('please {task} {things} now', 'now {task} {things} please', 'please {task} {things_and} now')

MODES = ('brief', 'full')  # of a report
FULL_SHARE = {'quick': 0.3, 'careful': 0.7}  # tone -> probability of a full report
MORE_NOTES = {'brief': 0.1, 'full': 0.25}  # mode -> probability of a further note
NOTE_TOKENS = 4  # three words and the newline
NOTE_WORDS = (('slightly', 'quite', 'very'), ('dusty', 'wet', 'worn', 'clean', 'cold', 'loose'))

_FAMILIES_OF_LISTS = ('list', 'bring', 'route', 'report')  # those that ask for several objects
_FRAME_TOKENS = 8  # of a prompt's content, besides the log and the things asked for


@dataclass(frozen=True)
class SiteLogTask:
    """One log with one instruction and the right answer to it.

    steps:            lines that a right answer holds, in this order.
    answer:           a whole right answer; for a report, one draw of its mode and notes.
    partial_lengths:  for each thing that the instruction names: the length in tokens, end token included, that the
                      answer would have had, had the instruction stopped there.
    """

    family: str
    log: str
    instruction: str
    steps: tuple[str, ...]
    answer: str
    partial_lengths: tuple[int, ...]
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
    def n_tokens(self) -> int:
        """Number of tokens of `content`, without those of the chat template."""
        return count_tokens(self.content)

    @property
    def n_answer_tokens(self) -> int:
        """Number of tokens of `answer`, with the end token."""
        return count_tokens(self.answer) + 1


def count_tokens(text: str) -> int:
    """Count the tokens of a text in this language: one per word and one per newline."""
    return len(text.split()) + text.count('\n')


def vocabulary() -> list[str]:
    """Return every word of the language and the newline, in a fixed order: that of the token ids."""
    words = ['\n', 'log', 'task', ':', 'visit', 'left', 'take', 'go', 'open', 'unlock', 'not', 'seen', 'report', HEAVY,
             'fetch', 'load', 'return', 'cart', 'note', 'please', 'now', 'and', *FAMILIES, *STATES, *MODES, *FULL_SHARE,
             *ROOMS]
    words += [*EVENTS, *(str(n) for n in range(1, LONGEST_VISIT + 1))]
    return list(dict.fromkeys([*words, *NOTE_WORDS[0], *NOTE_WORDS[1], *PEOPLE, *OBJECTS, *CONTAINERS, *KEYS, *PLACES]))


def generate(
    seed: int, *, split: str = 'train', family: str | None = None, n_tokens: int | None = None,
    n_asked: int | None = None, world: World | None = None,
) -> SiteLogTask:
    """Generate one task, the same for the same arguments.

    seed:      any non-negative integer.
    family:    one of FAMILIES, or None to draw one from the split's mix.
    n_tokens:  length of the prompt's content in tokens (at least 40), or None to draw one from the split's range. The
               content has this length within ten tokens, or is shorter by the objects that the log has too few for.
    n_asked:   number of objects in the instruction, or None to draw it. The instruction names fewer where the log has
               too few, or where the answer would get too long. `find` and `room` always ask for one thing.
    world:     what the log may hold (default: everything).

    Raises ValueError for an unknown split or family, a negative seed, n_tokens below 40 or n_asked below 1.
    """
    if split not in SPLITS:
        raise ValueError(f'unknown split {split!r}: expected one of {SPLITS}')
    if family is not None and family not in FAMILIES:
        raise ValueError(f'unknown family {family!r}: expected one of {FAMILIES}')
    if seed < 0:
        raise ValueError(f'seed must not be negative, got {seed}')
    if n_tokens is not None and n_tokens < 40:
        raise ValueError(f'n_tokens must be at least 40, got {n_tokens}')
    if n_asked is not None and n_asked < 1:
        raise ValueError(f'n_asked must be at least 1, got {n_asked}')
    world = world or World()
    rng = random.Random(f'{split}/{seed}')
    shifted = split == 'shifted'
    if family is None:
        mix = SHIFTED_MIX if shifted else MIX
        family = rng.choices(list(mix), weights=list(mix.values()))[0]
    if n_tokens is None:
        low, high = SHIFTED_LENGTHS if shifted else LENGTHS
        n_tokens = round(low * (high / low) ** rng.random())
    if family not in _FAMILIES_OF_LISTS:
        n_asked = 1
    elif n_asked is None:
        n_asked = rng.randint(1, min(MOST_TOLD, world.max_asked) if family == 'route' else world.max_asked)
    patrol = Patrol(rng, world, n_tokens - _FRAME_TOKENS - n_asked * (3 if family == 'route' else 1))
    if family == 'room':
        asked = [rng.choice(sorted(patrol.visits))]
    else:
        asked = _choose_objects(rng, family, n_asked, patrol, world)
    task, tone = family, None
    if family == 'report':
        tone = rng.choice(list(FULL_SHARE))
        task = f'{family} {tone}'
    things = [patrol.sighting(name) for name in asked] if family == 'route' else asked
    phrasing = rng.choice(SHIFTED_PHRASINGS if shifted else PHRASINGS)
    last = ['and', things[-1]] if len(things) > 1 else things
    instruction = phrasing.format(task=task, things=' '.join(things), things_and=' '.join([*things[:-1], *last]))
    parts = [_steps_for(family, name, patrol) for name in asked]
    steps = [step for part in parts for step in part]
    if family == 'report':
        parts = _report(rng, tone, steps)
    lines, lengths = [], []
    for part in parts:
        lines += part
        lengths.append(count_tokens('\n'.join(lines)) + 1)
    return SiteLogTask(family, ' '.join(patrol.records), instruction, tuple(steps), '\n'.join(lines),
                       tuple(lengths), split, seed)


def tasks(split: str, n: int) -> list[SiteLogTask]:
    """Return the first `n` tasks of a split."""
    return [generate(seed, split=split) for seed in range(n)]


def _choose_objects(rng: random.Random, family: str, n_asked: int, patrol: Patrol, world: World) -> list[str]:
    """Choose the objects of the instruction, each once: seen ones, and now and then one that the log never names."""
    seen = sorted(name for name in patrol.where if name not in KEYS)
    if family == 'bring':  # a plan needs the key of every locked container
        seen = [name for name in seen
                if patrol.state.get(name) != 'locked' or f'{patrol.where[name][1:]}-key' in patrol.where]
    unseen = [] if family == 'route' else [name for name in OBJECTS[:world.n_objects] if name not in patrol.where]
    rng.shuffle(seen)
    rng.shuffle(unseen)
    asked: list[str] = []
    tokens = 0
    while len(asked) < n_asked and (seen or unseen):
        missing = unseen and (not seen or rng.random() < world.missing_probability)
        if missing and not seen and asked:
            break
        name = (unseen if missing else seen).pop()
        tokens += sum(count_tokens(step) + 1 for step in _steps_for(family, name, patrol))
        if asked and tokens > MAX_ANSWER_TOKENS:
            break
        asked.append(name)
    return asked


def _steps_for(family: str, name: str, patrol: Patrol) -> list[str]:
    """Return the lines of the answer that deal with one object, or with the room of that name."""
    if family == 'room':
        *visit, end = patrol.visits[name]
        return [end.removeprefix('left '), *visit]
    if name not in patrol.where:
        return [f'{name} not seen', f'report {name}'] if family == 'bring' else [f'{name} not seen']
    place, state, sighting = patrol.where[name], patrol.state.get(name), patrol.sighting(name)
    if family == 'find':
        return [sighting, f'go {place}']
    if family == 'route':
        return [sighting, f'take {name}']
    if family != 'bring':
        return [sighting]
    if state == HEAVY:
        return [sighting, 'fetch cart', f'load {name}', 'return cart']
    steps, container = [sighting], place[1:]
    if state == 'locked':
        key = f'{container}-key'
        steps += [f'{key} {patrol.where[key]}', f'take {key}', f'unlock {container}']
    if state in ('closed', 'locked'):
        steps.append(f'open {container}')
    return [*steps, f'take {name}']


def _report(rng: random.Random, tone: str, sightings: list[str]) -> list[list[str]]:
    """Draw a report: its lines, one list for each sighting."""
    mode = 'full' if rng.random() < FULL_SHARE[tone] else 'brief'
    parts = []
    for sighting in sightings:
        part = [sighting] if parts else [mode, sighting]
        more = 1.0 if mode == 'full' else MORE_NOTES[mode]
        while not sighting.endswith('not seen') and rng.random() < more:
            part.append(f'note {rng.choice(NOTE_WORDS[0])} {rng.choice(NOTE_WORDS[1])}')
            more = MORE_NOTES[mode]
        parts.append(part)
    return parts
