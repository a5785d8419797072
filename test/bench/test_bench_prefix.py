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

"""The bench of prompts that begin alike, run small: its conversations, and that it notices what differs."""
import json

import pytest
import tiny_models
from loading_settings import POINTS, chosen
from transformers import AutoTokenizer

from timebill_ros.bench import prefix, prefix_goals, prefix_pauses, prefix_reading
from timebill_ros.bench.prefix_reading import Case
from timebill_ros.cli import bench_prefix
from timebill_ros.worker import loading


def words(messages):
    return sum(len(message['content'].split()) + 2 for message in messages)


@pytest.mark.parametrize('name', prefix_goals.SCENARIOS)
def test_goals_of_a_conversation_begin_alike_and_fit_the_context(name):
    goals = prefix_goals.SCENARIOS[name](10, words, 2000)
    made = [next(goals)]
    for i in range(9):
        made.append(goals.send(f'answer {i}'))
    assert all(words(goal.messages) < 2000 for goal in made)
    pairs = list(zip(made, made[1:], strict=False))
    if name == 'a chat of ten turns':
        assert all(after.messages[:len(before.messages)] == before.messages for before, after in pairs)
        assert made[1].messages[-2] == {'role': 'assistant', 'content': 'answer 0'}
    elif name == 'a log that grows':
        logs = [goal.messages[-1]['content'].rpartition('\n')[0] for goal in made]
        assert all(after.startswith(before) and after != before for before, after in zip(logs, logs[1:], strict=False))
        assert words(made[0].messages) < 600 and words(made[-1].messages) > 1500
    else:
        assert len({goal.messages[0]['content'] for goal in made}) == 1
        assert all(before.messages != after.messages for before, after in pairs)
    with pytest.raises(StopIteration):
        goals.send('')


def test_goals_of_several_robots_are_mixed():
    goals = list(prefix_goals.mixed(60, words))
    prompts = [goal.messages[0]['content'] for goal in goals]
    assert len(goals) == 60 and len(set(prompts)) == 3 and len(set(prompts[:8])) > 1
    assert max(words(goal.messages) for goal in goals) < 700
    assert goals == list(prefix_goals.mixed(60, words)), 'each run has the same goals'


@pytest.fixture
def model(tmp_path):
    """Give the directory of a model whose chat template takes a system message."""
    path = tiny_models.build(tmp_path / 'model', 'qwen2')
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = ("{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' ' }}{% endfor %}"
                               'assistant : ')
    tokenizer.save_pretrained(path)
    return str(path)


SMALL = prefix.Amount(minutes=0.02, rounds=2, n_goals=2, n_promises=4, longest=8192)


@pytest.mark.slow
def test_what_is_measured(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: POINTS)
    monkeypatch.setattr(prefix_reading, 'CASES', (Case(200, 20, 4.0, 5.0, 1.0), Case(4000, 100, 13.0, 11.0, 1.0)))
    monkeypatch.setattr(prefix_pauses, 'SHORT_S', 0.03)
    out = tmp_path / 'prefix.json'
    values = chosen(tmp_path, model=model, prefill_chunk_tokens=64, prefix_cache_mib=0)
    assert prefix.run(values, out, SMALL) == 0
    result = json.loads(out.read_text())
    assert result['left'] == [] and set(result['seconds_of']) == {name for name, *_ in prefix.PARTS}
    assert result['left_out'] == [] or 'llama.cpp' in result['left_out'][0]
    (case,) = result['cases']  # the context holds no more
    assert case['same_logits'] == case['compared'] == 2 and case['read_on'] == 8 and case['computed'] < 100
    assert case['quicker'] > 0 and case['evicted_quicker'] > 0 and case['against_before'] > 0
    for row in result['goals']:
        assert row['goals'] == 2 and not row['errors'] and 0 < row['reused_share'] < 1
        assert row['same_texts'] == row['compared'] == 2
    pauses, promises, ends = (result[part] for part in ('pauses', 'promises', 'ends'))
    assert pauses['rounds'] >= 1 and pauses['long_tokens'] >= 2 and pauses['short_goals'] <= pauses['wanted']
    assert promises['goals'] == 4 and promises['reused_goals'] >= 1 and promises['aimed_at'] == values['miss_rate']
    assert 64 in ends['same_states'] and ends['block_query_bytes'] > 0 and ends['known'] % ends['unit'] == 0
    printed = capsys.readouterr().out
    assert 'a log that grows' in printed and 'aimed at' in printed and 'with kept queries' in printed


def test_a_model_that_reads_every_prompt_from_its_beginning(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: POINTS)
    values = chosen(tmp_path, model=str(tiny_models.directory('mamba')))
    assert prefix.run(values, tmp_path / 'prefix.json', SMALL) == 1
    assert 'from its beginning' in capsys.readouterr().out


def test_a_stopped_run_goes_on_with_the_parts_that_are_left(tmp_path, capsys):
    out, facts = tmp_path / 'prefix.json', dict.fromkeys(prefix.SAME, 1)
    new = prefix._begun(out, facts, [('a', None, 1.0), ('b', None, 1.0)])
    assert new == {**facts, 'left': ['a', 'b'], 'left_out': [], 'seconds_of': {}}
    stopped = {**new, 'left': ['b'], 'a': [1]}
    out.write_text(json.dumps(stopped))
    assert prefix._begun(out, facts, [('a', None, 1.0), ('b', None, 1.0)]) == stopped
    assert 'going on with b' in capsys.readouterr().out
    for changed, left in (({'threads': 2}, ['b']), ({}, [])):
        out.write_text(json.dumps({**stopped, 'left': left}))
        assert 'a' not in prefix._begun(out, {**facts, **changed}, [('a', None, 1.0)])
    out.write_text('{"left": 3')
    assert 'a' not in prefix._begun(out, facts, [('a', None, 1.0)])


def test_the_command_names_the_parts():
    assert bench_prefix.PARTS == tuple(name for name, *_ in prefix.PARTS)
    assert prefix.BESIDE_LLAMA < set(bench_prefix.PARTS)
