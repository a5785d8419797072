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

"""From settings to a ready engine: which model, predictor and profile are taken, and what is refused."""
import dataclasses
import json
import math
import shutil
import time
from pathlib import Path

import pytest
import tiny_models
from loading_settings import chosen

from timebill_ros import resources, settings
from timebill_ros.codes import ErrorCode
from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.length.pessimistic_length import FixedFactor
from timebill_ros.request import Request
from timebill_ros.worker import loading, model_choice

# -- model and predictor ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize('with_predictor', [True, False])
def test_a_ready_engine_answers(with_predictor, tmp_path):
    predictor = str(tiny_models.predictor_directory()) if with_predictor else ''
    loaded = loading.load_engine(chosen(tmp_path, length_predictor=predictor, pessimistic_factor=3.0,
                                        pessimistic_length='fixed', prefill_chunk_tokens=64))
    engine, description = loaded.engine, loaded.description
    assert str(tiny_models.directory('qwen2')) in description and 'float32' in description
    assert ('learned lengths' in description) != with_predictor and 'eviction by snapkv' in description
    assert 'measured just now' in description
    assert (engine.tracker.length, engine.prefill_chunk_tokens) == (FixedFactor(3.0), 64)
    assert (engine.predictor is not None) == with_predictor
    now = time.monotonic()
    outcome = engine.run(Request('id', now, now + 60, prompt='w9 w10', max_new_tokens=8), Control(Deadline(now + 60)))
    assert outcome.error_code is ErrorCode.NONE and outcome.text
    assert math.isnan(outcome.timing.prediction_s) != with_predictor


@pytest.mark.parametrize('with_predictor', [True, False])
@pytest.mark.parametrize('with_profile', [True, False])
def test_settings_are_read_and_never_written(with_profile, with_predictor, tmp_path, measured):
    """What loading chooses where settings leave it open is returned beside the model."""
    predictor = str(tiny_models.predictor_directory()) if with_predictor else ''
    open_ = chosen(tmp_path, length_predictor=predictor)
    if with_profile:
        loading.load_engine({**open_, 'prefill_chunk_tokens': 48, 'predictor_placement': 'beside'})
        open_['profile'] = str(next((tmp_path / 'profiles').iterdir()))
    before = dict(open_)
    _, executor, choices = loading.load_model(open_)
    assert open_ == before and (open_['prefill_chunk_tokens'], open_['predictor_placement']) == (0, 'auto')
    assert choices.prefill_chunk_tokens == 48 if with_profile else choices.prefill_chunk_tokens > 0
    assert executor is None or executor.placement == choices.predictor_placement != 'auto'
    engine = loading.load_engine(open_).engine
    assert open_ == before and engine.prefill_chunk_tokens == choices.prefill_chunk_tokens
    settings.check(dataclasses.asdict(choices))


def test_a_model_that_cannot_be_evicted_is_described_so(tmp_path, measured):
    description = loading.load_engine(chosen(tmp_path, model=str(tiny_models.directory('mamba')))).description
    assert 'no eviction' in description


@pytest.mark.parametrize(('values', 'sentence'), [
    (dict(quality_table='/nowhere/quality.json'), '/nowhere/quality.json cannot be used'),
    (dict(variants='int3'), "'int3' is none of int8, int4, bfloat16, float16"),
])
def test_knobs_that_cannot_be_had_are_named(values, sentence, tmp_path, measured):
    with pytest.raises((ValueError, ModelError), match=sentence):
        loading.load_engine(chosen(tmp_path, **values))


def test_scores_that_cannot_be_read_are_named_and_missing_ones_are_a_warning(tmp_path, measured, caplog):
    path = Path(shutil.copytree(tiny_models.predictor_directory(), tmp_path / 'predictor'))
    values = chosen(tmp_path, length_predictor=str(path))
    (path / 'calibration.json').unlink(missing_ok=True)
    loading.load_engine(values)
    assert 'has no calibration.json' in caplog.text
    (path / 'calibration.json').write_text('{"format": 1, "scores": [0.5, 2.0]}')
    assert list(loading.load_engine(values).engine.tracker.length.scores.scores) == [0.5, 2.0]
    (path / 'calibration.json').write_text('{"format": 1, "scores": ["x"]}')
    with pytest.raises(ModelError, match='calibration.json cannot be used'):
        loading.load_engine(values)


def test_a_profile_of_other_prefill_chunks_is_a_warning(tmp_path, measured, caplog):
    loading.load_engine(chosen(tmp_path, prefill_chunk_tokens=64))
    assert 'prefill chunks' not in caplog.text
    profile = next((tmp_path / 'profiles').iterdir())
    loading.load_engine(chosen(tmp_path, prefill_chunk_tokens=32, profile=str(profile)))
    assert 'prefill chunks of 64 tokens, and prefill_chunk_tokens is 32' in caplog.text


@pytest.mark.parametrize('damage', ['no directory', 'no facts', 'no weights', 'broken facts', 'broken head'])
def test_a_length_predictor_that_cannot_be_loaded_is_named(damage, tmp_path):
    path = Path(shutil.copytree(tiny_models.predictor_directory(), tmp_path / 'predictor'))
    {'no directory': lambda: shutil.rmtree(path),
     'no facts': lambda: (path / 'length_predictor.json').unlink(),
     'no weights': lambda: (path / 'model.safetensors').unlink(),
     'broken facts': lambda: (path / 'length_predictor.json').write_text('{'),
     'broken head': lambda: (path / 'head.safetensors').write_bytes(b'x' * 99)}[damage]()
    with pytest.raises(ModelError, match='length.predictor') as caught:
        loading.load_model(chosen(tmp_path, length_predictor=str(path)))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('value', [dict(model='/nonexistent/model'), dict(device='nonsense')])
def test_a_model_that_cannot_be_loaded_is_named(value, tmp_path):
    with pytest.raises(ModelError, match='|'.join(value.values())):
        loading.load_engine(chosen(tmp_path, **value))


@pytest.mark.parametrize('named_predictor', [True, False])
def test_the_embedded_model_is_taken_with_its_predictor(named_predictor, tmp_path, monkeypatch):
    demo = tmp_path / 'demo'
    shutil.copytree(tiny_models.directory('llama'), demo / 'model')
    shutil.copytree(tiny_models.predictor_directory(), demo / 'length_predictor')
    monkeypatch.setattr(model_choice, 'embedded_directory', lambda: demo)
    other = str(shutil.copytree(demo / 'length_predictor', tmp_path / 'other')) if named_predictor else ''
    facts = json.loads((demo / 'length_predictor' / 'length_predictor.json').read_text())
    (demo / 'length_predictor' / 'length_predictor.json').write_text(json.dumps({**facts, 'max_input_tokens': 17}))
    loaded, predictor, _ = loading.load_model(chosen(tmp_path, model='embedded', length_predictor=other))
    assert loaded.name == str(demo / 'model')
    assert predictor.predictor.max_input_tokens == (48 if named_predictor else 17)


def test_a_missing_embedded_model_is_said(tmp_path, monkeypatch):
    def missing():
        raise FileNotFoundError('the embedded model is not installed beside here')

    monkeypatch.setattr(model_choice, 'embedded_directory', missing)
    with pytest.raises(ModelError, match='the embedded model is not installed'):
        loading.load_model(chosen(tmp_path, model='embedded'))


# -- places ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('setting', 'environment', 'expected'), [
    ('/cache', dict(XDG_CACHE_HOME='/xdg', HOME='/home/me'), '/cache'),
    ('~/cache', dict(XDG_CACHE_HOME='/xdg', HOME='/home/me'), '/home/me/cache'),
    ('', dict(XDG_CACHE_HOME='/xdg', HOME='/home/me'), '/xdg/timebill_ros'),
    ('', dict(XDG_CACHE_HOME='', HOME='/home/me'), '/home/me/.cache/timebill_ros'),
    ('', dict(XDG_CACHE_HOME='', HOME=''), '/tmp/.cache/timebill_ros'),
])
def test_the_cache_is_where_the_setting_or_the_user_says(setting, environment, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resources.cache_directory(setting) == Path(expected)


@pytest.mark.parametrize(('package', 'demo'), [
    ('checkout/timebill_ros', 'checkout/resource/demo'),
    ('venv/lib/python3.11/site-packages/timebill_ros', 'venv/share/timebill_ros/demo'),
    ('install/timebill_ros/lib/python3.12/site-packages/timebill_ros',
     'install/timebill_ros/share/timebill_ros/demo'),
    ('opt/ros/jazzy/local/lib/python3.12/dist-packages/timebill_ros', 'opt/ros/jazzy/share/timebill_ros/demo'),
])
def test_the_embedded_model_is_found_however_the_package_was_installed(package, demo, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, '__file__', str(tmp_path / package / 'resources.py'))
    monkeypatch.setattr(resources, 'PACKAGE_PARENT', (tmp_path / package).parent)
    with pytest.raises(FileNotFoundError, match=str(tmp_path / package)):
        resources.embedded_directory()
    (tmp_path / demo / 'model').mkdir(parents=True)
    (tmp_path / demo / 'model' / 'config.json').write_text('{}')
    assert resources.embedded_directory() == tmp_path / demo
