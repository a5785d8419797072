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

"""A profile comes back from its file; one that is broken or not this device's is refused with a sentence."""
import dataclasses

import pytest
import yaml

from timebill_ros.timing.execution_time import ExecutionTimes, ProfileError
from timebill_ros.timing.profile import CIRCUMSTANCES, Identity, OlderProfileError, Profile

IDENTITY = Identity(device='NVIDIA A40', model='4f2a', predictor='none', dtype='float32')
TRUE = ExecutionTimes(a=4e-9, b=1.9e-4, c=0.02, p=6e-7, q=0.028, e_1=2e-6, e_0=1e-3, a_p=1e-9, b_p=5e-5, c_p=4e-3)


def test_profile_round_trip(tmp_path):
    points = {'prefill': [[64, 0.01], [128, 0.02]], 'step': [[64, 0.001], [128, 0.002]]}
    int8 = {'p': 1e-7, 'q': 0.01, 'bend': 0.0, 'knee': 0}
    times = dataclasses.replace(TRUE, d=1e-3, chunk_tokens=256, bend=1e-8, knee=900, variants={'int8': int8},
                                draws={'greedy': 1e-4, 'top_p': 2e-3})
    profile = Profile(IDENTITY, times, '2026-01-31', {'torch': '2.13.0'}, {'step': 0.01}, {'step': 0.02},
                      {'step': [{'up_to': 128.0, 'n': 2, 'p50': 1.0, 'p95': 1.1, 'p99': 1.2}]}, [0.9, 1.1], points)
    path = tmp_path / 'new folder' / 'profile.yaml'
    profile.save(path)
    assert Profile.load(path) == profile
    assert [p.name for p in path.parent.iterdir()] == ['profile.yaml']  # no half-written file is left


def document(**changes):
    """A profile as YAML data with some of it changed; a value of None leaves the key out."""
    data = {'format': 3, 'identity': IDENTITY.facts(), 'costs': TRUE.costs()}
    for path, value in changes.items():
        *parents, key = path.split('__')
        place = data
        for parent in parents:
            place = place[parent]
        place[key] = value
        if value is None:
            del place[key]
    return yaml.safe_dump(data)


@pytest.mark.parametrize(('text', 'message'), [
    ('a: [', 'cannot be read'),
    ('\x00', 'cannot be read'),
    (document() + 'date: 2026-99-99\n', 'cannot be read'),
    ('[' * 5000, 'cannot be read'),
    ('', "format 3 .*'NoneType'"),
    ('just words', "format 3 .*'str'"),
    ('- 1', "format 3 .*'list'"),
    (document(format=None), 'format 3 .*None'),
    (document(format=1), 'older format 1, not 3'),
    (document(format=2), 'older format 2, not 3'),
    (document(format=99), 'format 3 .*99'),
    (document(costs__prefill__a=float('nan')), 'coefficient a .*nan'),
    (document(costs__step__p=float('inf')), 'coefficient p .*inf'),
    (document(costs__step__q=-0.5), r'coefficient q .*-0\.5'),
    (document(costs__prefill__b='4e-9'), "coefficient b .*'4e-9'"),
    (document(costs__prefill__c=[1]), r'coefficient c .*\[1\]'),
    (document(costs__prefill__c=True), 'coefficient c .*True'),
    (document(costs__prefill__c=10 ** 400), 'corrupt'),
    (document(costs__prefill__a=None), "'a'"),
    (document(identity__dtype=None), "'dtype'"),
    (document(costs=None), "'costs'"),
    (document(costs__step=None), "'p'"),
    (document(costs=7), 'corrupt'),
    (document(costs__step=7), 'corrupt'),
    (document(identity=None), "'identity'"),
    (document(identity=7), 'corrupt'),
    (document(costs__prefill__z=1.0), "'z'"),
    (document(costs__step__a=1.0), "cost 'step' has no 'a'"),
    (document(**{'costs__draw:top_p': {'z': 1.0}}), "'seconds'"),
    (document(**{'costs__draw:top_p': {'seconds': -1.0}}), 'of a draw by top_p .*-1.0'),
    (document(points=3), 'corrupt'),
    (document(run_ratios=3), 'corrupt'),
    (document(run_ratios=[1.0, float('nan')]), 'corrupt.* ratio is nan'),
    (document(points={'prefill': [64, 0.1]}), 'corrupt'),
    (document(points={'prefill': [[64, 0.0]]}), r'corrupt.* time or ratio is 0\.0'),
    (document(points={'prefill': [[float('inf'), 0.1]]}), 'corrupt.* length is inf'),
    (document(points={'prefill': [['64', 0.1]]}), 'corrupt'),
    (document(**{'costs__step:int8': 3}), 'corrupt'),
    (document(**{'costs__step:int8': {'p': 1.0}}), "variant 'int8' must have p, q, bend and knee"),
    (document(**{'costs__step:int8': {'p': 1.0, 'q': float('nan'), 'bend': 0.0, 'knee': 0}}),
     'q of variant int8 .*nan'),
])
def test_what_is_no_profile_is_refused(tmp_path, text, message):
    path = tmp_path / 'profile.yaml'
    path.write_text(text)
    with pytest.raises(ProfileError, match=message) as caught:
        Profile.load(path)
    assert str(path) in str(caught.value)


def test_the_document_that_these_tests_change_is_a_profile(tmp_path):
    path = tmp_path / 'profile.yaml'
    path.write_text(document())
    assert Profile.load(path) == Profile(IDENTITY, TRUE)


def test_missing_and_unreadable_files_are_refused(tmp_path):
    (tmp_path / 'binary.yaml').write_bytes(b'\xff\xfe\xfa')
    for name in ('missing.yaml', 'binary.yaml', '.'):
        with pytest.raises(ProfileError, match='cannot be read'):
            Profile.load(tmp_path / name)


def test_a_profile_cannot_run_code(tmp_path):
    proof = tmp_path / 'proof'
    path = tmp_path / 'profile.yaml'
    path.write_text(document() + f"date: !!python/object/apply:os.mkdir ['{proof}']\n")
    with pytest.raises(ProfileError, match='cannot be read'):
        Profile.load(path)
    assert not proof.exists()
    yaml.unsafe_load(path.read_text())  # a loader that is not safe does run the code
    assert proof.exists()


@pytest.mark.parametrize('name', ['identity__driver', 'costs__upload'])
def test_facts_and_costs_that_a_later_version_adds_need_no_new_format(name, tmp_path):
    path = tmp_path / 'profile.yaml'
    path.write_text(document(**{name: {'a': 1.0} if name.startswith('costs') else '7.1'}))
    assert Profile.load(path) == Profile(IDENTITY, TRUE)
    path.write_text(document(costs__eviction=None, costs__prediction=None))
    assert Profile.load(path).times.eviction(1000) == 0.0


def test_the_format_of_an_earlier_version_is_told_from_a_broken_file(tmp_path):
    path = tmp_path / 'profile.yaml'
    path.write_text(document(format=2))
    with pytest.raises(OlderProfileError):
        Profile.load(path)


@pytest.mark.parametrize('fact', CIRCUMSTANCES)
def test_other_circumstances_are_named_where_both_sides_know_them(fact):
    mine = dataclasses.replace(IDENTITY, **{fact: '2.12'})
    now = dataclasses.replace(IDENTITY, **{fact: '2.13'})
    profile = Profile(mine, TRUE)
    profile.check(now, 'p.yaml')  # the profile is still of this model on this device
    assert profile.aged(now) == f"{fact} '2.12' (now '2.13')"
    assert profile.aged(mine) == profile.aged(IDENTITY) == Profile(IDENTITY, TRUE).aged(now) == ''


@pytest.mark.parametrize('field', [field.name for field in dataclasses.fields(Identity)
                                   if field.name not in CIRCUMSTANCES])
def test_another_devices_profile_is_refused(field):
    Profile(IDENTITY, TRUE).check(IDENTITY, 'p.yaml')
    other = dataclasses.replace(IDENTITY, **{field: 'something else'})
    with pytest.raises(ProfileError) as caught:
        Profile(IDENTITY, TRUE).check(other, 'p.yaml')
    for part in ('p.yaml', f'{field} ', repr(getattr(IDENTITY, field)), "'something else'"):
        assert part in str(caught.value)
