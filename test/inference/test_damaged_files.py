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

"""Which file of a model is not whole, and what a user is told to do about it."""
import pytest
import torch
from safetensors.torch import save_file

from timebill_ros.inference.damaged_files import damaged, find_damage

AGAIN = 'is incomplete or damaged: download it again'


@pytest.fixture
def directory(tmp_path):
    save_file({'weight': torch.zeros(1 << 19)}, tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text('{}')
    (tmp_path / 'README.md').write_text('no JSON')
    return tmp_path


def test_nothing_is_said_of_whole_files(directory):
    assert find_damage(directory) == '' and find_damage(directory / 'nowhere') == ''


@pytest.mark.parametrize(('name', 'n', 'said'), [
    ('model.safetensors', 2000000, f'model.safetensors (1.9 MiB) {AGAIN}'),
    ('model.safetensors', 20, f'model.safetensors (20 bytes) {AGAIN}'),
    ('config.json', 1, f'config.json (1 bytes) {AGAIN}'),
    ('config.json', 0, f'config.json (0 bytes) {AGAIN}')])
def test_a_file_that_was_cut_short_is_named_with_its_size(name, n, said, directory):
    whole = (directory / name).read_bytes()
    assert n < len(whole)
    (directory / name).write_bytes(whole[:n])
    assert said in find_damage(directory)


def test_a_pointer_of_git_is_told_from_half_a_file(directory):
    (directory / 'model.safetensors').write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n')
    assert 'model.safetensors (63 bytes) is not the file itself' in find_damage(directory)


def test_what_the_library_said_stays_on_one_line(directory):
    told = damaged(directory / 'config.json', ValueError('first\n  second ' + 1000 * 'x'))
    assert '(ValueError: first second x' in told and len(told) < 500 + len(str(directory))
