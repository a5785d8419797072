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

"""A doubted profile goes to the process that takes the place of the one that measured it, and to no other."""
import os
import time
from dataclasses import replace

import pytest

from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.timing.profile import Identity, Profile
from timebill_ros.worker.doubted_profile import LONGEST_S, SUFFIX, forget, hand_over, handed_over

IDENTITY = Identity(device='a CPU', model='m', dtype='float32', predictor='none')
PROFILE = Profile(IDENTITY, ExecutionTimes(a=0.0, b=1e-4, c=0.0, p=1e-6, q=1e-3), 'today',
                  points={'prefill': [[64, 0.1]]})


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'profiles' / 'case-key.yaml'


def test_what_was_handed_over_is_found_until_it_is_forgotten(path):
    assert handed_over(path, IDENTITY) is None
    assert hand_over(path, PROFILE) and handed_over(path, IDENTITY) == PROFILE
    assert [found.name for found in path.parent.iterdir()] == [f'case-key{SUFFIX}'], 'it is no kept profile'
    forget(path)
    assert handed_over(path, IDENTITY) is None
    forget(path)


def test_one_of_something_else_of_long_ago_or_damaged_is_not_used(path):
    hand_over(path, PROFILE)
    assert handed_over(path, replace(IDENTITY, model='other')) is None
    file = path.with_suffix(SUFFIX)
    os.utime(file, (time.time() - LONGEST_S - 1,) * 2)
    assert handed_over(path, IDENTITY) is None
    hand_over(path, PROFILE)
    file.write_text(file.read_text()[:50])
    assert handed_over(path, IDENTITY) is None


def test_a_cache_that_cannot_be_written_hands_nothing_over(tmp_path):
    (tmp_path / 'file').write_text('')
    path = tmp_path / 'file' / 'case.yaml'
    assert not hand_over(path, PROFILE) and handed_over(path, IDENTITY) is None
    forget(path)
