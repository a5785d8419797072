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

"""What is not installed is told, and told apart from what cannot be compiled."""
import importlib.util
import shutil
import subprocess

import pytest
import torch

from timebill_ros.inference.steps import toolkit
from timebill_ros.inference.steps.toolkit import ToolkitMissing

CPU, CUDA = torch.device('cpu'), torch.device('cuda')


@pytest.fixture
def installed(monkeypatch):
    """Let these programs and Python packages be installed, and no others."""
    def only(*names, **environment):
        monkeypatch.setattr(shutil, 'which', lambda name: f'/usr/bin/{name}' if name in names else None)
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object() if name in names else None)
        for variable in ('CC', 'CXX'):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
    return only


@pytest.mark.parametrize(('device', 'names', 'environment', 'lacks'), [
    (CPU, ['g++'], {}, []), (CPU, ['clang++'], {}, []), (CPU, [], {}, ['C++ compiler']),
    (CPU, ['mine'], {'CXX': 'mine'}, []), (CPU, ['ccache'], {'CXX': 'ccache g++-13'}, []),
    (CPU, [], {'CXX': 'gone'}, ['C++ compiler']),
    (CUDA, ['g++', 'gcc', 'triton'], {}, []), (CUDA, ['g++', 'cc', 'triton'], {}, []),
    (CUDA, ['g++', 'gcc'], {}, ['triton']), (CUDA, ['g++', 'triton'], {}, [' C compiler']),
    (CUDA, [], {}, ['C++ compiler', ' C compiler', 'triton']),
])
def test_what_every_compilation_takes_is_looked_for_first(device, names, environment, lacks, installed):
    installed(*names, **environment)
    if not lacks:
        toolkit.check(device)
        return
    with pytest.raises(ToolkitMissing) as caught:
        toolkit.check(device)
    for lack in lacks:
        assert lack in str(caught.value)
    assert 'configure again' in str(caught.value)


def raised(make) -> Exception:
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError('nothing was raised')


def wrapped(inner: Exception) -> Exception:
    """Return an error that was raised from another, as PyTorch's compiler raises its own."""
    def make():
        try:
            raise inner
        except Exception as error:
            raise RuntimeError('backend failed') from error
    return raised(make)


@pytest.mark.parametrize(('error', 'lack'), [
    (OSError('CUDA_HOME environment variable is not set. Please set it to your CUDA install root.'), 'CUDA toolkit'),
    (RuntimeError('Failed to find C compiler. Please specify via CC environment variable'), 'C compiler'),
    (RuntimeError('No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, g++)'), 'C++ compiler'),
    (RuntimeError('Cannot find a working triton installation. Either the package is not installed'), 'triton'),
    (RuntimeError('C++ compile error\nOutput:\nmain.c:3:10: fatal error: Python.h: No such file or directory'),
     'headers of Python'),
    (RuntimeError('C++ compile error\nx.cpp:9:10: fatal error: cuda_runtime_api.h: No such file or directory'),
     'CUDA toolkit'),
    (raised(lambda: subprocess.run(['no-such-linker', '-r'], check=True)), 'the program no-such-linker'),
    (raised(lambda: __import__('no_such_package.part')), 'the Python package no_such_package'),
])
@pytest.mark.parametrize('wrap', [lambda error: error, wrapped])
def test_an_error_for_want_of_something_names_it(error, lack, wrap):
    with pytest.raises(ToolkitMissing, match='but not without') as caught:
        toolkit.check_error(wrap(error))
    assert lack in str(caught.value)


@pytest.mark.parametrize('error', [
    RuntimeError('control flow of the test'), raised(lambda: open('/no/such/folder/file')), MemoryError(),
    RuntimeError('C++ compile error\nx.cpp:9: error: expected ;'), wrapped(ValueError('a dimension')), None])
def test_other_errors_are_the_models(error):
    toolkit.check_error(error)
