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

"""The bench of answers that have a form, run small: its goals, that it goes on, and that it notices what is wrong."""
import json

import byte_tokenizers
import pytest
from loading_settings import POINTS, chosen

jsonschema = pytest.importorskip('jsonschema')
pytest.importorskip('llguidance')
from transformers import AutoTokenizer  # noqa: E402

from timebill_ros.bench import structured, structured_goals, structured_rows  # noqa: E402
from timebill_ros.bench.structured_goals import PROMPTS, SCHEMAS, SHARES, goal  # noqa: E402
from timebill_ros.codes import OnCut  # noqa: E402
from timebill_ros.inference.grammars.kept_loosely import kept_loosely  # noqa: E402
from timebill_ros.inference.model_directory import ModelError  # noqa: E402
from timebill_ros.worker import loading  # noqa: E402


def test_goals_are_the_same_in_every_run_and_their_schemas_take_turns():
    goals = [goal(number) for number in range(200)]
    assert goals[:50] == [goal(number) for number in range(50)]
    for name in SCHEMAS:
        own = [one for one in goals if one.schema == name]
        assert len(own) == 40 and {one.prompt for one in own} == set(range(len(PROMPTS[name])))
        assert {one.temperature for one in own} == {0.0, structured_goals.TEMPERATURE}
        assert json.loads(own[0].schema_text) == SCHEMAS[name] and own[0].schema_text in own[0].messages[0]['content']
    shares = [one.share for one in goals]
    assert SHARES[0] <= min(shares) < 0.2 and 1.3 < max(shares) <= SHARES[1]
    assert len(structured_goals.unhurried(goals)) == sum(map(len, PROMPTS.values()))


@pytest.mark.parametrize('name', SCHEMAS)
def test_schemas_are_schemas_that_answers_can_follow(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert not kept_loosely(SCHEMAS[name])


@pytest.fixture
def model(tmp_path):
    """Give the directory of a model whose tokenizer spells bytes, with a chat template."""
    path = byte_tokenizers.build(tmp_path / 'model', max_position_embeddings=4096)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.mark.slow
def test_what_is_measured_and_that_a_longer_run_goes_on(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: POINTS)
    out = tmp_path / 'structured.json'
    values = chosen(tmp_path, model=model, prefix_cache_mib=0, length_predictor='none')
    assert structured.run(values, out, n_goals=5, on_cut=[OnCut.CLOSE]) == 0
    asked, ask = [], structured.ask

    def noted(engine, one, budget_s, on_cut, margin_s):
        if budget_s < structured.UNHURRIED_S:
            asked.append((one.number, on_cut))
        return ask(engine, one, budget_s, on_cut, margin_s)

    monkeypatch.setattr(structured, 'ask', noted)
    assert structured.run(values, out, n_goals=7, on_cut=[OnCut.DROP, OnCut.CLOSE]) == 0
    assert set(asked) == {*((n, OnCut.DROP) for n in range(7)), (5, OnCut.CLOSE), (6, OnCut.CLOSE)}
    assert len(asked) == 9, 'five were finished'
    result = json.loads(out.read_text())
    assert {row['on_cut'] for row in result['rows']} == {'drop', 'close'}
    for row in result['rows']:
        assert row['n'] == sum(row[kind.replace(' ', '_')] for kind in structured_rows.KINDS)
        assert row['invalid'] == 0
    whole = [row for row in result['rows'] if row['schema'] == 'all']
    assert [row['n'] for row in whole] == [7, 7]
    assert sum(row['n'] for row in result['budgets'] if row['schema'] == 'all') == 14
    shown = capsys.readouterr().out
    assert 'every result that succeeded is JSON that satisfies its schema (0 did not)' in ' '.join(shown.split())


def test_a_model_whose_answers_have_no_form(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: POINTS)
    assert structured.run(chosen(tmp_path), tmp_path / 'structured.json', n_goals=1, on_cut=[OnCut.DROP]) == 1
    assert 'cannot be given a form' in capsys.readouterr().out


def test_a_model_without_a_chat_template_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: POINTS)
    path = byte_tokenizers.build(tmp_path / 'model', chat=False)
    with pytest.raises(ModelError, match='failed: .*chat template'):
        structured.run(chosen(tmp_path, model=str(path)), tmp_path / 'structured.json', n_goals=1, on_cut=[OnCut.DROP])
