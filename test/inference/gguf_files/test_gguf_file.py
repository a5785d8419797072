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

"""What is no GGUF file of a whole model is refused with a sentence that says what to do."""
import ast
import re
import sys
from pathlib import Path

import gguf
import pytest
import tiny_gguf

from timebill_ros.inference.gguf_files.gguf_file import LIBRARIES, GgufFile, is_gguf
from timebill_ros.inference.model_directory import ModelError

ROOT = Path(__file__).resolve().parents[3]


def file_with(path, write) -> GgufFile:
    writer = gguf.GGUFWriter(path, 'llama')
    write(writer)
    return GgufFile(tiny_gguf._written(writer, path))


def test_a_file_is_known_by_its_suffix_or_its_first_bytes(tmp_path):
    (tmp_path / 'blob').write_bytes(b'GGUF\3')
    (tmp_path / 'text').write_text('no')
    assert is_gguf(str(tmp_path / 'blob')) and is_gguf('/nowhere/A.GGUF')
    assert not is_gguf(str(tmp_path / 'text')) and not is_gguf(str(tmp_path)) and not is_gguf('owner/name')


def test_metadata_is_read_by_key(tmp_path):
    file = GgufFile(tiny_gguf.vocabulary_only(tmp_path / 'v.gguf', 'smollm'))
    assert file.architecture == 'llama' and file.get('tokenizer.ggml.pre') == 'smollm'
    assert file.get('tokenizer.ggml.tokens')[:3] == list(tiny_gguf.CONTROL) and file.get('nothing', 7) == 7
    assert file.length('tokenizer.ggml.tokens') == len(file.get('tokenizer.ggml.tokens')) and not file.length('nothing')


@pytest.mark.parametrize(('write', 'said'), [
    (lambda writer: writer.add_type('adapter'), 'no model but a part of one .adapter.'),
    (lambda writer: writer.add_uint16('split.count', 3), 'one of 3 parts.*--merge'),
    (lambda writer: None, 'holds no weights, only a vocabulary')])
def test_a_part_of_a_model_is_refused(write, said, tmp_path):
    with pytest.raises(ModelError, match=said):
        file_with(tmp_path / 'v.gguf', write).check()


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ModelError, match='does not exist'):
        GgufFile(tmp_path / 'none.gguf')
    whole = tiny_gguf.vocabulary_only(tmp_path / 'v.gguf', 'smollm').read_bytes()
    again = 'is incomplete or damaged: download it again'
    for name, content, said in (('empty', b'', f'empty .0 bytes. {again}'), ('half', whole[:10], again),
                                ('cut', whole[:2000], f'cut .2000 bytes. {again}'),
                                ('text', b'hello', 'is no GGUF file: it does not begin with GGUF'),
                                ('old', b'GGUF' + bytes([9, 0, 0, 0]) + whole[8:], 'version 9 .* newer library'),
                                ('pointer', b'version https://git-lfs.github.com/spec/v1', 'run "git lfs pull"')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=said):
            GgufFile(tmp_path / name)


def test_weights_that_were_cut_short_are_incomplete(tmp_path):
    whole = tiny_gguf.llama(tmp_path / 'whole.gguf', tiny_gguf.original_llama()).read_bytes()
    (tmp_path / 'cut.gguf').write_bytes(whole[:-5000])
    with pytest.raises(ModelError, match=r'cut.gguf .* is incomplete or damaged: download it again'):
        GgufFile(tmp_path / 'cut.gguf')


@pytest.mark.parametrize('name', LIBRARIES)
def test_a_missing_library_is_said(name, tmp_path, monkeypatch):
    path = tiny_gguf.vocabulary_only(tmp_path / 'v.gguf', 'smollm')
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=f'the library {name}, .*, is not installed for .*pip install.*"{name}>='):
        GgufFile(path)


def test_everything_that_installs_the_libraries_installs_all_of_them():
    """Here they are there anyway: the tests' other libraries bring them."""
    def text(name):
        return (ROOT / name).read_text()
    pins = {name: re.search(rf'^{name}==(\S+)$', text('requirements.txt'), re.MULTILINE)[1] for name in LIBRARIES}
    (extra,) = re.findall(r"'gguf': (\[.*?\])", text('setup.py'))
    assert sorted(ast.literal_eval(extra)) == sorted(f'{name}=={version}' for name, version in pins.items())
    lines = [line for name in ('README.md', 'docker/jetson.Dockerfile', 'docs/operating.md')
             for line in re.sub(r'\\\n|(?<=gguf)\n', ' ', text(name)).splitlines()
             if 'pip install' in line and re.search(r'\bgguf\b', line)]
    assert len(lines) == 3
    for line in lines:
        assert all(re.search(rf'\b{name}\b', line) for name in LIBRARIES), line
