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

"""Which model is served: by name, by file, and where none is named."""
import json
import logging
from pathlib import Path

import pytest

from timebill_ros import settings
from timebill_ros.inference import named_models
from timebill_ros.inference.gguf_files import source
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.resources import embedded_directory
from timebill_ros.worker import model_choice
from timebill_ros.worker.model_choice import ModelChoice, choose_model

EMBEDDED = ModelChoice(str(embedded_directory() / 'model'), str(embedded_directory() / 'length_predictor'))


def choose(cache: Path, model: str) -> ModelChoice:
    return choose_model(settings.check({'model': model, 'cache_dir': str(cache)}))


@pytest.fixture
def real(tmp_path) -> Path:
    """A cache that holds what the name smollm2 stands for, as far as choosing it goes."""
    directory = tmp_path / 'models' / 'SmolLM2-0'
    directory.mkdir(parents=True)
    facts = {'format': source.FORMAT, 'sha256': named_models.NAMED_MODELS['smollm2'].file_sha256}
    (directory / source.SOURCE_FILE).write_text(json.dumps(facts))
    return directory


def test_a_directory_or_hub_id_is_taken_as_it_is(tmp_path):
    assert choose(tmp_path, '/some/where') == ModelChoice('/some/where')
    assert choose(tmp_path, 'owner/name') == ModelChoice('owner/name')


def test_names(tmp_path, real):
    assert choose(tmp_path, 'embedded') == EMBEDDED
    assert choose(tmp_path, 'smollm2') == ModelChoice(str(real))


def test_a_named_model_that_is_not_here_is_not_downloaded(tmp_path):
    with pytest.raises(ModelError, match='model smollm2 is not in the cache .*"timebill get-model smollm2"'):
        choose(tmp_path, 'smollm2')


def test_without_a_name_the_real_one_is_taken_where_it_is_here(tmp_path, real, caplog):
    caplog.set_level(logging.INFO)
    assert choose(tmp_path, '') == ModelChoice(str(real))
    record, = caplog.records
    assert 'SmolLM2-135M-Instruct' in record.message and 'answers short questions' in record.message


def test_without_a_name_the_embedded_one_is_taken_otherwise(tmp_path, caplog):
    assert choose(tmp_path, '') == EMBEDDED
    record, = caplog.records
    assert record.levelno == logging.WARNING
    assert 'answers nothing else' in record.message and '"timebill get-model smollm2"' in record.message


def test_a_gguf_file_is_converted_and_held(tmp_path, monkeypatch):
    from timebill_ros.inference.gguf_files import conversion
    made = tmp_path / 'models' / 'x-0'
    asked = []

    def converted(path, models):
        asked.append((path, models))
        made.mkdir(parents=True)
        return made

    monkeypatch.setattr(conversion, 'converted', converted)
    used = []
    monkeypatch.setattr(model_choice.disk_cache, 'use', lambda path: used.append(path) or True)
    assert choose(tmp_path, '/files/x.gguf') == ModelChoice(str(made))
    assert asked == [(Path('/files/x.gguf'), tmp_path / 'models')] and used == [made]
