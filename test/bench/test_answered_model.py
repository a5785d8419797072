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

"""The model of a journal's answers, without its weights: which methods and which tasks the answers are of."""
import json

import pytest
import tiny_models

from timebill_ros import settings
from timebill_ros.bench.answered_model import AnsweredModel
from timebill_ros.bench.answers import text_of
from timebill_ros.bench.finished_answers import BESIDE, FIRST
from timebill_ros.bench.timed_answers import methods_of
from timebill_ros.inference.model_directory import ModelError, fingerprint
from timebill_ros.resources import key_of
from timebill_ros.tasks.scored_task import ScoredTask

FACTS = {'precision': 'float32', 'variants': 'int8'}


def model_of(directory, pieces=(), facts=FACTS):
    return AnsweredModel(settings.check({'model': str(directory)}), facts, pieces)


def recorded(method, when):
    return {'kind': 'recorded', 'key': ['1', method, when], 'answer': {}}


def test_it_reads_tokens_as_the_model_does():
    directory = tiny_models.directory('qwen2')
    model = model_of(directory)
    assert model.fingerprint == fingerprint(str(directory)) and model.eos_ids == {tiny_models.EOS}
    assert text_of(model, [9, 10, tiny_models.EOS]) == text_of(model, [9, 10]) != text_of(model, [9])


@pytest.mark.parametrize('has_file', [True, False])
def test_end_tokens_are_those_of_the_generation_config(tmp_path, has_file):
    directory = tiny_models.copy_of('qwen2', tmp_path)
    path = directory / 'generation_config.json'
    if has_file:
        path.write_text(json.dumps({**json.loads(path.read_text()), 'eos_token_id': [1, 7]}))
    else:
        path.unlink()
    assert model_of(directory).eos_ids == ({1, 7} if has_file else {1})


@pytest.mark.parametrize(('kind', 'pieces', 'evicts'), [
    ('qwen2', [], True), ('qwen2', [recorded('vanilla', FIRST)], True),
    ('qwen2', [recorded('vanilla', BESIDE), recorded('fixed_50', BESIDE)], True),
    ('qwen2', [recorded('vanilla', BESIDE), recorded('int8', BESIDE)], False), ('deepseek_v3', [], False)])
def test_its_methods_are_those_of_the_model(kind, pieces, evicts):
    assert methods_of(model_of(tiny_models.directory(kind), pieces), (0.5,)) == {
        'vanilla': ('float32', 0.0), **({'fixed_50': ('float32', 0.5)} if evicts else {}), 'int8': ('int8', 0.0)}


def test_the_tasks_are_those_that_fitted(capsys):
    model = model_of(tiny_models.directory('qwen2'))
    tasks = [ScoredTask(str(n), 'a', [{'role': 'user', 'content': ' '.join(['w7'] * n)}], 10, lambda text: {})
             for n in (30, 400, 20, 500)]
    for left in (tasks, [tasks[0], tasks[1], tasks[2]], [tasks[0], tasks[2]], [tasks[2]]):
        assert model.answered_tasks(tasks, key_of(task.key for task in left)) == left
    assert '3 of 4 tasks are left out' in capsys.readouterr().out
    assert model.answered_tasks(tasks, key_of(['other'])) == tasks


def test_a_model_that_is_not_here_is_a_sentence(tmp_path):
    with pytest.raises(ModelError, match='neither a directory nor a hub id'):
        model_of(tmp_path / 'none')
