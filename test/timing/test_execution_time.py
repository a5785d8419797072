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

"""Estimates follow from the coefficients; a profile that is broken or not this device's is refused with a sentence."""
import dataclasses

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from timebill_ros.timing.execution_time import ExecutionTimes, Identity, Profile, ProfileError

IDENTITY = Identity(device='NVIDIA A40', model='4f2a', predictor='none', dtype='float32')
TRUE = ExecutionTimes(a=4e-9, b=1.9e-4, c=0.02, p=6e-7, q=0.028, e_1=2e-6, e_0=1e-3, a_p=1e-9, b_p=5e-5, c_p=4e-3)


def test_prefill_in_chunks_is_the_sum_of_its_chunks():
    """Each chunk has a cost of its own, so the time over the length is a staircase on a parabola."""
    times = dataclasses.replace(TRUE, d=0.01, chunk_tokens=100)
    assert [times.chunks(n) for n in (1, 100, 101, 350)] == [1, 1, 2, 4] and TRUE.chunks(350) == 1
    assert times.prefill(350) == pytest.approx(TRUE.prefill(350) + 4 * 0.01)
    chunks = [times.chunk(start, min(100, 350 - start)) for start in range(0, 350, 100)]
    assert sum(chunks) == pytest.approx(times.prefill(350))
    assert chunks[1] < chunks[2] > chunks[3], 'later chunks attend to more tokens, and the last one is shorter'


def test_a_variant_has_step_times_of_its_own_and_shares_the_rest():
    times = dataclasses.replace(TRUE, variants={'int8': {'p': 1e-7, 'q': 0.01, 'bend': 0.0, 'knee': 0}})
    int8 = times.of_variant('int8')
    assert int8.step(1000) == pytest.approx(0.0101) and int8.prefill(1000) == times.prefill(1000)
    assert times.of_variant('float32') is times
    assert times.estimate('step:int8', 1000) == int8.step(1000) and times.estimate('step', 1000) == times.step(1000)


SMALL = st.one_of(st.just(0.0), st.floats(1e-12, 1e-2))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(a_p=SMALL, b_p=SMALL, c_p=SMALL, b=SMALL, n_x=st.integers(1, 100_000))
def test_predictor_bound_is_the_longest_input_that_prefill_hides(a_p, b_p, c_p, b, n_x):
    times = ExecutionTimes(a=0, b=b, c=1e-3, p=0, q=0, a_p=a_p, b_p=b_p, c_p=c_p)
    bound, hidden = times.predictor_bound(n_x), times.prefill(n_x)
    assert 0 <= bound <= n_x
    if bound > 0:
        assert times.prediction(bound) <= hidden * (1 + 1e-9)
    if bound < n_x:
        assert times.prediction(bound + 1) >= hidden * (1 - 1e-9)


def test_profile_round_trip(tmp_path):
    points = {'prefill': [[64, 0.01], [128, 0.02]], 'step': [[64, 0.001], [128, 0.002]]}
    int8 = {'p': 1e-7, 'q': 0.01, 'bend': 0.0, 'knee': 0}
    times = dataclasses.replace(TRUE, d=1e-3, chunk_tokens=256, bend=1e-8, knee=900, variants={'int8': int8})
    profile = Profile(IDENTITY, times, '2026-01-31', {'torch': '2.13.0'}, {'step': 0.01}, {'step': 0.02},
                      {'step': [{'up_to': 128.0, 'n': 2, 'p50': 1.0, 'p95': 1.1, 'p99': 1.2}]}, [0.9, 1.1], points)
    path = tmp_path / 'new folder' / 'profile.yaml'
    profile.save(path)
    assert Profile.load(path) == profile
    assert [p.name for p in path.parent.iterdir()] == ['profile.yaml']  # no half-written file is left


def document(**changes):
    """A profile as YAML data with some of it changed; a value of None leaves the key out."""
    data = {'format': 2, 'identity': dataclasses.asdict(IDENTITY), 'times': dataclasses.asdict(TRUE)}
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
    ('', "format 2 .*'NoneType'"),
    ('just words', "format 2 .*'str'"),
    ('- 1', "format 2 .*'list'"),
    (document(format=None), 'format 2 .*None'),
    (document(format=1), 'format 2 .*1'),
    (document(times__a=float('nan')), 'coefficient a .*nan'),
    (document(times__p=float('inf')), 'coefficient p .*inf'),
    (document(times__q=-0.5), r'coefficient q .*-0\.5'),
    (document(times__b='4e-9'), "coefficient b .*'4e-9'"),
    (document(times__c=[1]), r'coefficient c .*\[1\]'),
    (document(times__c=True), 'coefficient c .*True'),
    (document(times__c=10 ** 400), 'corrupt'),
    (document(times__a=None), "'a'"),
    (document(identity__dtype=None), "'dtype'"),
    (document(times=None), "'times'"),
    (document(identity=None), "'identity'"),
    (document(identity=7), 'corrupt'),
    (document(times__z=1.0), "'z'"),
    (document(identity__z='x'), "'z'"),
    (document(points=3), 'corrupt'),
    (document(run_ratios=3), 'corrupt'),
    (document(times__variants=3), 'corrupt'),
    (document(times__variants={'int8': 3}), 'corrupt'),
    (document(times__variants={'int8': {'p': 1.0}}), "variant 'int8' must have p, q, bend and knee"),
    (document(times__variants={'int8': {'p': 1.0, 'q': float('nan'), 'bend': 0.0, 'knee': 0}}),
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


@pytest.mark.parametrize('field', [field.name for field in dataclasses.fields(Identity)])
def test_another_devices_profile_is_refused(field):
    Profile(IDENTITY, TRUE).check(IDENTITY, 'p.yaml')
    other = dataclasses.replace(IDENTITY, **{field: 'something else'})
    with pytest.raises(ProfileError) as caught:
        Profile(IDENTITY, TRUE).check(other, 'p.yaml')
    for part in ('p.yaml', f'{field} ', repr(getattr(IDENTITY, field)), "'something else'"):
        assert part in str(caught.value)
