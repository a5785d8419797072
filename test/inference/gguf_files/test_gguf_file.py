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
import sys

import gguf
import pytest
import tiny_gguf

from timebill_ros.inference.gguf_files.gguf_file import GgufFile, is_gguf
from timebill_ros.inference.model_directory import ModelError


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
    for name, content in (('empty', b''), ('text', b'GGUF and so on'), ('cut', whole[:2000])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match='is no GGUF file that can be read'):
            GgufFile(tmp_path / name)


def test_a_missing_library_is_said(tmp_path, monkeypatch):
    path = tiny_gguf.vocabulary_only(tmp_path / 'v.gguf', 'smollm')
    monkeypatch.setitem(sys.modules, 'gguf', None)
    with pytest.raises(ModelError, match='the library gguf, which reads it, is not installed for .*pip install'):
        GgufFile(path)
