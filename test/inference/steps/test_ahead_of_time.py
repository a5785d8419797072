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

"""Arguments of PyTorch's loader are those that the installed release has, in stand-ins for several releases."""
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch._inductor
from torch._inductor.package import package

from timebill_ros.inference.steps import ahead_of_time

PACKAGE = Path('step.pt2')


class V26:
    """Weights are copied."""

    def load_constants(self, constants_map, *, check_full_update):
        raise AssertionError('not called')


class V28:
    def load_constants(self, constants_map, *, check_full_update, user_managed=False):
        self.loaded = (constants_map, check_full_update, user_managed)

    def get_constant_fqns(self):
        return ['w']


class V213(V28):
    def load_constants(self, constants_map, *, check_full_update, user_managed=False, allow_h2d_copy=False):
        self.loaded = (constants_map, check_full_update, user_managed)


@pytest.mark.parametrize(('model', 'said'), [
    (SimpleNamespace, 'a second time'), (V26, 'a second time'), (V28, ''), (V213, '')])
def test_a_pytorch_that_copies_weights_is_refused(model, said, monkeypatch):
    monkeypatch.setattr(package, 'AOTICompiledModel', model)
    found = ahead_of_time.refusal()
    assert said in found and bool(found) == bool(said)
    monkeypatch.delattr(torch._inductor, 'aoti_load_package')
    assert 'no ahead-of-time compiler' in ahead_of_time.refusal()


def test_the_installed_pytorch_is_used():
    assert ahead_of_time.refusal() == ''


def test_a_package_is_loaded_with_the_arguments_that_there_are(monkeypatch):
    given = []
    for load in (lambda path: given.append({}), lambda path, **options: given.append(options),
                 lambda path, run_single_threaded=False: given.append(run_single_threaded)):
        monkeypatch.setattr(torch._inductor, 'aoti_load_package', load)
        ahead_of_time.load(PACKAGE)
    assert given == [{}, {}, True]


def test_weights_stay_where_they_are():
    program, weight = V28(), torch.ones(2)
    ahead_of_time.share_weights(program, {'w': weight, 'of another part': torch.ones(3)})
    constants, checked, shared = program.loaded
    assert constants['w'] is weight and list(constants) == ['w'] and checked and shared


def test_a_program_runs_by_the_quickest_way_that_there_is():
    run, boxed = object(), object()
    assert ahead_of_time.runner(SimpleNamespace(loader=SimpleNamespace(run=run))) is run
    assert ahead_of_time.runner(SimpleNamespace(loader=SimpleNamespace(run=run, boxed_run=boxed))) is boxed
