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

from timebill_ros.bench import prefix, prefix_goals
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


@pytest.fixture
def model(tmp_path):
    """Give the directory of a model whose chat template takes a system message."""
    path = tiny_models.build(tmp_path / 'model', 'qwen2')
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = ("{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' ' }}{% endfor %}"
                               'assistant : ')
    tokenizer.save_pretrained(path)
    return str(path)


def test_what_is_measured(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: POINTS)
    monkeypatch.setattr(prefix, 'CASES', ((200, 20, 4.0, 5.0), (4000, 100, 13.0, 11.0)))
    out = tmp_path / 'prefix.json'
    values = chosen(tmp_path, model=model, prefill_chunk_tokens=64, prefix_cache_mib=0)
    assert prefix.run(values, out, rounds=1, n_goals=3) == 0
    result = json.loads(out.read_text())
    (case,) = result['cases']  # the context holds no more
    assert case['same_logits'] == case['compared'] == 4 and case['computed'] < 100
    assert case['quicker'] > 0 and case['evicted_quicker'] > 0 and case['against_before'] > 0
    for row in result['goals']:
        assert row['goals'] == row['same_texts'] == 3 and not row['errors'] and 0 < row['reused_share'] < 1
    assert 'a log that grows' in capsys.readouterr().out


def test_a_model_that_reads_every_prompt_from_its_beginning(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: POINTS)
    values = chosen(tmp_path, model=str(tiny_models.directory('mamba')))
    assert prefix.run(values, tmp_path / 'prefix.json', rounds=1, n_goals=3) == 1
    assert 'from its beginning' in capsys.readouterr().out
