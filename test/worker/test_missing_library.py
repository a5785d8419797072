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

"""The sentence for a Python that lacks a library: which one, for which Python, and the command that installs it."""
import sys

import pytest

from timebill_ros import settings
from timebill_ros.worker.missing_library import missing_library

COMMAND = ' -m pip install "torch>=2.5" "transformers>=4.56" safetensors numpy pyyaml'


def lacking(name):
    return ModuleNotFoundError(f'No module named {name!r}', name=name)


@pytest.mark.parametrize(('error', 'given', 'said'), [
    (lacking('numpy.linalg'), {'worker_python': '/a/python'},
     f"worker_python '/a/python' lacks the library numpy: /a/python{COMMAND}, or name"),
    (lacking('yaml'), {'worker_python': '/a/python'}, f'lacks the library yaml: /a/python{COMMAND}, or'),
    (lacking('huggingface_hub'), {'worker_python': '/a/python'}, f'/a/python{COMMAND} huggingface_hub, or'),
    (lacking('numpy'), {'worker_python': '/a/python', 'worker': 'scripted'}, 'install numpy pyyaml, or'),
    (lacking('torch'), {}, f'worker_python is not set, and the Python of the node, {sys.executable}, lacks the library '
     f'torch: {sys.executable}{COMMAND}'),
    (ImportError("cannot import name 'X' from 'transformers'", name='transformers'), {'worker_python': '/a/python'},
     f"cannot import what inference takes (cannot import name 'X' from 'transformers'): /a/python{COMMAND}"),
    (ImportError('libcudart.so.13: cannot open shared object file'), {}, 'takes (libcudart.so.13: cannot open'),
])
def test_it_names_the_python_the_library_and_the_command(error, given, said):
    assert said in missing_library(error, settings.check(given))


@pytest.mark.parametrize('error', [ValueError('numpy'), lacking('timebill_ros.worker.nothing')])
def test_anything_else_is_left_to_others(error):
    assert missing_library(error, settings.check({})) == ''
