import itertools
import json
import subprocess
import sys

import pytest

from timebill_ros.training import site_log
from timebill_ros.training.site_log import (
    CONTAINERS,
    FAMILIES,
    OBJECTS,
    PLACES,
    SPLITS,
    STATES,
    SiteLogTask,
    World,
    exact_match,
    generate,
    step_accuracy,
)


def plan_by_reading(task: SiteLogTask) -> list[str]:
    """The right plan worked out from the prompt's text alone, on its own terms."""
    log, instruction = task.content.split('\n')
    facts = {}
    for record in log.removeprefix('log : ').split(' ; '):
        subject, value = record.removesuffix(' ;').split()
        facts[subject] = value  # a later record overwrites an earlier one
    family, *asked = instruction.removeprefix('task : ').split()
    lines = []
    for name in asked:
        if name not in facts:
            lines.append(f'{name} missing')
            continue
        place = facts[name]
        lines.append(f'{name} {place}')
        if family == 'find':
            lines.append(f'go {place}')
        if family == 'bring':
            holder = place[1:]
            if holder in CONTAINERS:
                lines.append(f'{holder} {facts[holder]}')
                lines += {'open': [], 'closed': [f'open {holder}'],
                          'locked': [f'unlock {holder}', f'open {holder}']}[facts[holder]]
            lines.append(f'take {name}')
    return lines


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('n_tokens', [24, 100, 1000])
def test_the_reference_follows_from_the_text(family, n_tokens):
    for seed in range(60):
        task = generate(seed, split='test', family=family, n_tokens=n_tokens)
        assert list(task.steps) == plan_by_reading(task)
        assert task.family == family


@pytest.mark.parametrize('n_tokens', [24, 60, 250, 1000])
def test_prompts_have_the_length_asked_for(n_tokens):
    for seed in range(30):
        assert n_tokens - 3 <= generate(seed, n_tokens=n_tokens, n_asked=2).n_tokens <= n_tokens


def test_answers_reach_from_a_few_tokens_to_well_over_a_hundred():
    lengths = [generate(seed, n_tokens=n).n_answer_tokens for n in (60, 400, 1000) for seed in range(400)]
    assert min(lengths) == 3  # a missing object, and the end
    assert max(lengths) > 120


def test_the_length_depends_on_the_log_and_not_only_on_the_instruction():
    lengths = {generate(seed, n_tokens=400, family='bring', n_asked=6).n_answer_tokens for seed in range(50)}
    assert max(lengths) - min(lengths) >= 20


def test_objects_are_seen_again_and_moved_and_the_latest_sighting_is_not_always_the_first():
    moved = seen_again = 0
    for seed in range(20):
        task = generate(seed, n_tokens=600)
        sightings = {}
        for record in task.log.removesuffix(' ;').split(' ; '):
            subject, value = record.split()
            if subject in OBJECTS and value in PLACES:
                sightings.setdefault(subject, []).append(value)
        seen_again += sum(len(places) > 1 for places in sightings.values())
        moved += sum(places[0] != places[-1] for places in sightings.values())
    assert seen_again > 400 and moved > 150


def test_same_arguments_same_task():
    assert generate(5, split='test', n_tokens=300) == generate(5, split='test', n_tokens=300)
    assert generate(5, n_tokens=300) != generate(6, n_tokens=300)


def test_splits_share_no_log():
    logs = {split: {generate(seed, split=split, n_tokens=60).log for seed in range(300)} for split in SPLITS}
    for a, b in itertools.combinations(SPLITS, 2):
        assert not logs[a] & logs[b]
    assert all(len(split) == 300 for split in logs.values())


def test_a_small_world_stays_small():
    world = World(n_objects=16, n_places=8, move_probability=0.0, max_asked=3)
    words = set()
    for seed in range(50):
        task = generate(seed, n_tokens=80, world=world)
        words |= set(task.content.split()) | set(task.answer.split())
    assert not words & set(OBJECTS[16:]) and not words & set(PLACES[8:])


def test_every_word_is_in_the_vocabulary_once():
    vocabulary = site_log.vocabulary()
    assert len(vocabulary) == len(set(vocabulary)) < 256
    assert len(OBJECTS) == len(set(OBJECTS)) and not set(OBJECTS) & {w for e in site_log.EVENTS for w in e.split()}
    for seed in range(200):
        task = generate(seed, n_tokens=500)
        assert set(task.content.split()) | set(task.answer.split()) <= set(vocabulary)


def task_of(*steps: str) -> SiteLogTask:
    return SiteLogTask('bring', 'mug @shelf1 ;', 'bring mug', steps, 'test', 0)


@pytest.mark.parametrize(('text', 'expected'), [
    ('a 1\nb 2\nc 3\nd 4', 1.0),
    ('  a   1 \n\nb 2\nc 3\nd 4\n', 1.0),
    ('a 1\nb 2\nc', 0.5),  # cut by a deadline: the half line is wrong
    ('a 1\nx 2\nc 3\nd 4', 0.75),
    ('a 1\nb 2\nx 9\nc 3\nd 4', 1.0),  # an extra step costs nothing here
    ('d 4\nc 3\nb 2\na 1', 0.25),  # the order counts
    ('a 1 b 2 c 3 d 4', 0.0),
    ('', 0.0),
])
def test_step_accuracy(text, expected):
    assert step_accuracy(task_of('a 1', 'b 2', 'c 3', 'd 4'), text) == expected


def test_exact_match_sees_extra_and_missing_steps():
    task = task_of('a 1', 'b 2')
    assert exact_match(task, ' a  1\nb 2\n')
    assert not exact_match(task, 'a 1\nb 2\nc 3')
    assert not exact_match(task, 'a 1')


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'split': 'tests'}, 'tests'), ({'family': 'fetch'}, 'fetch'), ({'seed': -1}, '-1'), ({'n_tokens': 23}, '23'),
])
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(**{'seed': 0, **arguments})


def test_jsonl_round_trip(tmp_path):
    tasks = [generate(seed, split='calibration', n_tokens=100) for seed in range(5)]
    site_log.write_jsonl(tasks, tmp_path / 'tasks.jsonl')
    assert site_log.read_jsonl(tmp_path / 'tasks.jsonl') == tasks
    row = json.loads((tmp_path / 'tasks.jsonl').read_text().splitlines()[0])
    assert row['messages'] == tasks[0].messages and row['answer'] == tasks[0].answer


def test_a_line_that_is_no_task_is_named(tmp_path):
    path = tmp_path / 'tasks.jsonl'
    site_log.write_jsonl([generate(0)], path)
    path.write_text(path.read_text() + '{"family": "find"}\n')
    with pytest.raises(ValueError, match='line 2'):
        site_log.read_jsonl(path)


def test_states_are_all_used():
    last = [step.split()[-1] for seed in range(200) for step in generate(seed, n_tokens=300, family='bring').steps]
    assert set(STATES) <= set(last)


def test_nothing_heavy_is_imported():
    code = ('import sys; import timebill_ros.training.site_log; '
            'print([m for m in ("torch", "transformers", "rclpy", "numpy") if m in sys.modules])')
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'
