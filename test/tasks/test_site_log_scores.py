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

"""The scores of answers to site-log tasks."""
import itertools
import json

import pytest

from timebill_ros.tasks.site_log import FAMILIES, MODES, SiteLogTask, generate
from timebill_ros.tasks.site_log_scores import exact_match, scored, step_accuracy, steps_of, token_f1, write_jsonl


def task_of(*steps: str, family: str = 'bring') -> SiteLogTask:
    return SiteLogTask(family, 'mug @shelf1 ;', f'{family} mug', steps, '\n'.join(steps), (1,), 'test', 0)


@pytest.mark.parametrize(('text', 'accuracy', 'exact'), [
    ('a 1\nb 2\nc 3\nd 4', 1.0, True),
    ('  a   1 \n\nb 2\nc 3\nd 4\n', 1.0, True),  # spaces and empty lines are no steps
    ('a 1\nb 2\nc', 0.5, False),  # cut by a deadline: the half line is wrong
    ('a 1\nb 2\nc 3', 0.75, False),
    ('a 1\nx 2\nc 3\nd 4', 0.75, False),
    ('a 1\nb 2\nx 9\nc 3\nd 4', 1.0, False),  # an extra step costs nothing in accuracy
    ('a 1\na 1\nb 2\nc 3\nd 4', 1.0, False),
    ('d 4\nc 3\nb 2\na 1', 0.25, False),  # the order counts
    ('b 2\na 1\nc 3\nd 4', 0.75, False),
    ('a 1 b 2 c 3 d 4', 0.0, False),  # lines are steps
    ('', 0.0, False),
])
def test_step_accuracy_and_exact_match(text, accuracy, exact):
    task = task_of('a 1', 'b 2', 'c 3', 'd 4')
    assert step_accuracy(task, text) == accuracy
    assert exact_match(task, text) is exact


def test_a_step_that_occurs_twice_is_wanted_twice():
    task = task_of('fetch cart', 'take mug', 'fetch cart')
    assert step_accuracy(task, 'fetch cart\ntake mug') == step_accuracy(task, 'fetch cart\nfetch cart') == 2 / 3
    assert step_accuracy(task, 'fetch cart') == 1 / 3


def test_a_task_as_benches_take_it():
    task = task_of('a 1', 'b 2')
    scored_task = scored(task, 64)
    assert scored_task.scores('a 1') == {'step_accuracy': 0.5, 'exact_match': 0.0, 'token_f1': token_f1(task, 'a 1')}
    assert (scored_task.score('a 1'), scored_task.messages, scored_task.family) == (0.5, task.messages, 'bring')


@pytest.mark.parametrize(('text', 'expected'), [
    ('mug @shelf1\ntake mug', 1.0),
    ('take mug\nmug @shelf1', 1.0),  # bags of words have no order
    ('mug @shelf1', 2 * 2 / (2 + 4)),  # precision 1, recall 1/2
    ('mug @shelf1\ntake', 2 * 3 / (3 + 4)),  # half a line counts here
    ('mug mug mug', 2 * 2 / (3 + 4)),  # the reference has the word twice, so the third is wrong
    ('mug @shelf2\ntake saw', 2 * 2 / (4 + 4)),  # `mug` once and `take`
    ('mug @shelf1\ntake mug\ngo @shelf1 now please', 2 * 4 / (8 + 4)),  # precision 1/2, recall 1
    ('saw @table1', 0.0),
    ('', 0.0),
])
def test_token_f1(text, expected):
    assert token_f1(task_of('mug @shelf1', 'take mug'), text) == pytest.approx(expected)


@pytest.mark.parametrize('text', [
    'brief\nmug @shelf1\nsaw not seen',
    'full\nmug @shelf1\nnote very dusty\nnote slightly cold\nsaw not seen',
    ' full \n mug  @shelf1\nnote  quite wet\nsaw not seen\n',
    'mug @shelf1\nsaw not seen',  # without a mode line
])
def test_the_mode_and_the_notes_of_a_report_do_not_count(text):
    report = task_of('mug @shelf1', 'saw not seen', family='report')
    assert steps_of(report, text) == ['mug @shelf1', 'saw not seen']
    assert step_accuracy(report, text) == token_f1(report, text) == 1.0 and exact_match(report, text)


@pytest.mark.parametrize(('text', 'f1'), [
    ('brief\nmug @shelf1\nnote very shiny', 2 * 2 / (5 + 2)),  # no note of the language
    ('brief\nmug @shelf1\nnote very dusty wet', 2 * 2 / (6 + 2)),
    ('brief\nfull\nmug @shelf1', 2 * 2 / (3 + 2)),  # a mode is the first line only
    ('mug @shelf1\nbrief', 2 * 2 / (3 + 2)),
])
def test_other_lines_of_a_report_count(text, f1):
    report = task_of('mug @shelf1', family='report')
    assert not exact_match(report, text) and step_accuracy(report, text) == 1.0
    assert token_f1(report, text) == pytest.approx(f1)


@pytest.mark.parametrize('extra', ['note very dusty', *MODES])
@pytest.mark.parametrize('family', [family for family in FAMILIES if family != 'report'])
def test_modes_and_notes_are_extra_steps_of_any_other_family(family, extra):
    task = task_of('mug @shelf1', family=family)
    text = f'{extra}\nmug @shelf1'
    assert steps_of(task, text) == text.split('\n')
    assert not exact_match(task, text) and token_f1(task, text) < 1


@pytest.mark.parametrize('family', FAMILIES)
def test_the_answer_is_right_and_what_is_left_of_it_is_right_in_part(family):
    for seed in range(10):
        task = generate(seed, split='test', family=family, n_tokens=400)
        assert step_accuracy(task, task.answer) == token_f1(task, task.answer) == 1.0 and exact_match(task, task.answer)
        lines = task.answer.split('\n')
        for n in range(len(lines)):
            n_steps = sum(line in task.steps for line in lines[:n])
            # The first n lines, and the next one cut before its last word.
            cut = '\n'.join([*lines[:n], ' '.join(lines[n].split()[:-1])])
            assert step_accuracy(task, cut) == n_steps / len(task.steps)
            assert token_f1(task, cut) < 1.0 or n_steps == len(task.steps)
            assert exact_match(task, '\n'.join(lines[:n])) == (n_steps == len(task.steps))


@pytest.mark.parametrize('family', FAMILIES)
def test_the_answer_to_another_task_is_wrong(family):
    tasks = [generate(seed, split='test', family=family, n_tokens=400) for seed in range(20)]
    for task, other in itertools.pairwise(tasks):
        assert step_accuracy(task, other.answer) < 0.7 and not exact_match(task, other.answer)


@pytest.mark.parametrize('cut', ['note', 'note very'])
def test_a_note_that_was_cut_does_not_count(cut):
    report = task_of('mug @shelf1', family='report')
    assert token_f1(report, f'full\nmug @shelf1\n{cut}') == 1.0


def test_jsonl_has_one_line_per_task_with_its_messages_and_answer(tmp_path):
    tasks = [generate(seed, split='calibration', n_tokens=150) for seed in range(8)]
    path = tmp_path / 'tasks.jsonl'
    path.write_text('what was here before\n')
    write_jsonl(tasks, str(path))
    rows = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
    assert len(rows) == len(tasks)
    for row, task in zip(rows, tasks, strict=True):
        assert row['messages'] == task.messages and row['answer'] == task.answer
        assert row['messages'][0]['content'] == f'log : {row["log"]}\ntask : {row["instruction"]}'
        del row['messages']
        assert SiteLogTask(**{**row, 'steps': tuple(row['steps']),
                              'partial_lengths': tuple(row['partial_lengths'])}) == task
