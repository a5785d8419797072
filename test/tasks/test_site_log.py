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

"""Site-log tasks: their answers follow from their prompts, and both are as long as asked for."""
import itertools
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from site_log_reader import family_of, plan_by_reading, records_of, things_of

from timebill_ros.tasks import site_log
from timebill_ros.tasks.patrol import OBJECTS, PLACES, STATES, World, room_of
from timebill_ros.tasks.site_log import FAMILIES, LENGTHS, MAX_ANSWER_TOKENS, SPLITS, generate, vocabulary

SINGLE = ('find', 'room')  # families that ask for one thing
DETERMINISTIC = [family for family in FAMILIES if family != 'report']


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize(('n_tokens', 'n_seeds'), [(40, 20), (100, 20), (400, 10), (1500, 4), (4000, 2)])
def test_the_reference_follows_from_the_text(family, n_tokens, n_seeds):
    for split, seed in itertools.product(SPLITS, range(n_seeds)):
        task = generate(seed, split=split, family=family, n_tokens=n_tokens)
        assert list(task.steps) == plan_by_reading(task.log, task.instruction)
        assert (task.family, task.split, task.seed) == (family, split, seed)
        assert task.family == family_of(task.instruction)
        assert task.content == f'log : {task.log}\ntask : {task.instruction}'
        assert task.messages == [{'role': 'user', 'content': task.content}]


def test_the_reference_follows_from_the_text_in_the_tasks_as_they_come(natural):
    for task in itertools.chain(*natural.values()):
        assert list(task.steps) == plan_by_reading(task.log, task.instruction)


def test_the_reader_meets_everything_that_a_plan_can_hold(natural):
    """Otherwise the tests above would say nothing on keys, carts and missing objects."""
    firsts = Counter(step.split()[0] for task in itertools.chain(*natural.values()) if task.family == 'bring'
                     for step in task.steps)
    assert min(firsts[word] for word in ('take', 'open', 'unlock', 'fetch', 'report')) > 100
    steps = [step for task in itertools.chain(*natural.values()) for step in task.steps]
    assert {*STATES, 'heavy'} <= {step.split()[1] for step in steps}


def test_the_example_in_the_docstring_is_right():
    example = site_log.__doc__.split('one step per line:\n')[1].split('(The log')[0]
    prompt, answer = example.strip().split('\n\n')
    log, instruction = (' '.join(part.split()) for part in prompt.removeprefix('log : ').split('task :'))
    steps = [re.split(r'\s{2,}', line.strip())[0] for line in answer.splitlines()]  # a remark stands beside some
    assert steps == plan_by_reading(log, instruction)
    for visit in re.findall(r'visit .*? left \w+ \d+', log):
        room, *noted, last = [record.removeprefix('visit ') for record in records_of(visit)]
        assert last == f'left {room} {len(noted)}'
        assert {room_of(word) for word in visit.split() if word.startswith('@')} == {room}


@pytest.mark.parametrize('family', DETERMINISTIC)
def test_the_answer_is_its_steps(family):
    for seed in range(20):
        task = generate(seed, family=family, n_tokens=300)
        assert task.answer.split('\n') == list(task.steps)


def test_a_report_is_its_steps_with_a_mode_and_notes():
    note = re.compile('note (slightly|quite|very) (dusty|wet|worn|clean|cold|loose)')
    modes, words = Counter(), set()
    for seed in range(800):
        task = generate(seed, family='report', n_tokens=200)
        mode, *lines = task.answer.split('\n')
        tone = re.search('quick|careful', task.instruction).group()
        modes[tone, mode] += 1
        assert [line for line in lines if not line.startswith('note')] == list(task.steps)
        notes = [line for line in lines if line.startswith('note')]
        assert all(note.fullmatch(line) for line in notes)
        words |= set(' '.join(notes).split())
        for line, following in itertools.pairwise([*lines, '']):
            if line.endswith('not seen'):  # nothing is known of it
                assert not following.startswith('note')
            elif line in task.steps and mode == 'full':
                assert following.startswith('note')
    assert len(words) == 1 + 3 + 6
    share = {tone: modes[tone, 'full'] / (modes[tone, 'full'] + modes[tone, 'brief']) for tone in ('quick', 'careful')}
    assert share['quick'] == pytest.approx(0.3, abs=0.08) and share['careful'] == pytest.approx(0.7, abs=0.08)


@pytest.mark.parametrize('family', FAMILIES)
def test_partial_lengths_are_those_of_shorter_instructions(family):
    for seed in range(40):
        task = generate(seed, split='validation', family=family, n_tokens=300)
        things = things_of(task)
        assert len(task.partial_lengths) == len(things)
        assert task.partial_lengths[-1] == task.n_answer_tokens
        assert all(a < b for a, b in itertools.pairwise(task.partial_lengths))
        for thing, length in zip(things, task.partial_lengths, strict=True):
            # The instruction stops behind this thing; a route also says where the thing is.
            shorter = re.match(rf'.* {thing}\b( @\w+)?', task.instruction).group()
            steps = plan_by_reading(task.log, shorter)
            if family == 'report':  # the drawn lines up to the next thing, notes on this thing included
                lines = [*task.answer.split('\n'), None]
                steps = lines[:lines.index([*task.steps, None][len(steps)])]
            assert length == len(' \n '.join(steps).split(' ')) + 1


@pytest.mark.parametrize('n_tokens', [40, 60, 250, 1000, 4000])
@pytest.mark.parametrize('family', FAMILIES)
def test_prompts_have_the_length_asked_for(family, n_tokens):
    for seed in range(30 if n_tokens < 4000 else 6):
        task = generate(seed, family=family, n_tokens=n_tokens, n_asked=2)
        # A log may end 6 tokens early, where no further visit fits, or 2 late, within a record. The rest is phrasing.
        assert n_tokens - 10 <= task.n_tokens <= n_tokens + 3
        assert task.n_tokens == len(task.content.replace('\n', ' \n ').split(' '))
        if n_tokens >= 250:  # a shorter log may hold too few objects
            assert len(things_of(task)) == (1 if family in SINGLE else 2)


def test_prompts_fall_short_by_no_more_than_the_objects_that_the_log_lacks(natural):
    for task in natural['train']:
        assert LENGTHS[0] - 10 - 2 * 31 <= task.n_tokens <= LENGTHS[1] + 3
    for seed in range(10):  # a long log has as many objects as an instruction may name
        assert 3990 <= generate(seed, n_tokens=4000).n_tokens <= 4003


def test_answers_reach_from_a_few_tokens_to_some_hundred(natural):
    for family in FAMILIES:
        lengths = [task.n_answer_tokens for task in itertools.chain(*natural.values()) if task.family == family]
        shortest, longest = {'find': (4, 7), 'room': (8, 50), 'list': (3, 130), 'route': (6, 60)}.get(
            family, (5, MAX_ANSWER_TOKENS))
        assert shortest <= min(lengths) and max(lengths) <= longest
        assert max(lengths) - min(lengths) >= 3 if family == 'find' else max(lengths) > 0.6 * longest


def test_a_plan_that_would_get_too_long_asks_for_fewer_objects():
    world = World(heavy_probability=1.0, missing_probability=0.0)
    lengths, n_asked = [], []
    for seed in range(15):
        task = generate(seed, family='bring', n_tokens=2500, n_asked=32, world=world)
        lengths.append(task.n_answer_tokens)
        n_asked.append(len(things_of(task)))
    assert max(lengths) <= MAX_ANSWER_TOKENS and max(n_asked) <= 32
    assert sum(n < 32 for n in n_asked) > 5 and np.median(lengths) > MAX_ANSWER_TOKENS - 25


def test_the_length_depends_on_the_log_and_not_only_on_the_instruction():
    lengths = [generate(seed, n_tokens=400, family='bring', n_asked=6).n_answer_tokens for seed in range(50)]
    assert max(lengths) - min(lengths) >= 20


def test_objects_of_an_instruction_are_different_and_some_are_missing():
    n_things = n_missing = 0
    for seed in range(100):
        task = generate(seed, n_tokens=1500, family='list', n_asked=12)
        things = things_of(task)
        assert len(set(things)) == len(things) and set(things) <= set(OBJECTS)
        n_things += len(things)
        n_missing += sum(thing not in task.log.split() for thing in things)
    assert n_missing / n_things == pytest.approx(World().missing_probability, abs=0.03)


def test_same_arguments_same_task():
    arguments = {'split': 'test', 'n_tokens': 300}
    assert generate(5, **arguments) == generate(5, **arguments) != generate(6, **arguments)
    code = ('from timebill_ros.tasks.site_log import generate; t = generate(5, split="test", n_tokens=300); '
            'print(t.content); print(t.answer)')
    task = generate(5, **arguments)
    # In another interpreter strings hash differently, so a dependence on the order of a set would show.
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert out == f'{task.content}\n{task.answer}\n'


def test_a_small_world_stays_small():
    world = World(n_objects=16, n_places=8, move_probability=0.0, missing_probability=0.0, heavy_probability=0.0,
                  max_asked=3)
    words, n_asked = set(), set()
    for seed in range(200):
        task = generate(seed, n_tokens=90, world=world)
        words |= set(task.content.split()) | set(task.answer.split())
        n_asked.add(len(things_of(task)))
        places = {}
        for record in records_of(task.log):
            if record.split()[0] in OBJECTS:
                assert places.setdefault(record.split()[0], record.split()[1]) == record.split()[1]  # nothing moves
    assert n_asked == {1, 2, 3}
    assert words & set(OBJECTS) == set(OBJECTS[:16]) and words & set(PLACES) == set(PLACES[:8])
    assert not words & {'office', 'garage', 'hall', 'heavy', 'cart', 'not'}
    keys = {word for word in words if word.endswith('-key')}
    assert keys == {'drawer1-key', 'drawer2-key', 'cabinet1-key', 'cabinet2-key'}


def test_every_word_is_in_the_vocabulary_once(natural):
    words = vocabulary()
    assert len(words) == len(set(words)) < 400
    used = set()
    for task in itertools.chain(*natural.values()):
        for line in [*task.content.split('\n'), *task.answer.split('\n')]:
            assert line == ' '.join(line.split())  # single spaces
            used |= set(line.split())
    assert used <= set(words)
    assert set(words) - used <= {'\n'}  # every word is used


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'split': 'tests'}, "'tests'"), ({'family': 'fetch'}, "'fetch'"), ({'seed': -1}, '-1'), ({'n_tokens': 39}, '39'),
    ({'n_asked': 0}, '0'),
])
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(**{'seed': 0, **arguments})


@pytest.mark.parametrize('family', ['route', 'bring'])
def test_a_short_prompt_keeps_a_log(family):
    for seed in range(30):
        task = generate(seed, family=family, n_tokens=40)
        assert task.log.startswith('visit ') and task.steps


def test_nothing_heavy_is_imported():
    code = ('import sys; import timebill_ros.tasks.site_log, timebill_ros.tasks.site_log_scores; '
            'print([m for m in ("torch", "transformers", "rclpy") if m in sys.modules])')
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'
