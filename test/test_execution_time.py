"""The fit recovers what produced its points; a profile that is not this device's is refused with a sentence."""
import dataclasses
import random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from timebill_ros.execution_time import ExecutionTimes, Identity, Profile, ProfileError, fit, fit_nonnegative

IDENTITY = Identity(device='NVIDIA A40', model='4f2a', predictor='none', dtype='float32')
TRUE = ExecutionTimes(a=4e-9, b=1.9e-4, c=0.02, p=6e-7, q=0.028, e_1=2e-6, e_0=1e-3, a_p=1e-9, b_p=5e-5, c_p=4e-3)
LENGTHS = [64, 256, 1000, 4000, 8000, 16000, 32000]
ESTIMATORS = {'prefill': TRUE.prefill, 'step': TRUE.step, 'eviction': TRUE.eviction, 'prediction': TRUE.prediction}


def synthetic_points(noise=0.0, outliers=0, repeats=9, seed=0):
    """Repeats of TRUE's times with relative noise; the first `outliers` repeats of each length take ten times as
    long."""
    rng = random.Random(seed)
    return {kind: [[n, estimate(n) * (1 + rng.gauss(0, noise)) * (10 if i < outliers else 1)]
                   for n in LENGTHS for i in range(repeats)] for kind, estimate in ESTIMATORS.items()}


@pytest.mark.parametrize(('noise', 'outliers', 'tolerance'), [(0.0, 0, 1e-6), (0.0, 4, 1e-6), (0.02, 3, 0.05)])
def test_fit_recovers_the_times(noise, outliers, tolerance):
    times, errors = fit(synthetic_points(noise, outliers))
    for kind, estimate in ESTIMATORS.items():
        assert errors[kind] <= max(noise, 1e-9)
        fitted = getattr(times, kind)
        for n in [*LENGTHS, 500, 20_000]:
            assert fitted(n) == pytest.approx(estimate(n), rel=tolerance)


def test_fit_recovers_the_coefficients():
    times, _ = fit(synthetic_points())
    for name, value in dataclasses.asdict(TRUE).items():
        if name != 'prefill_floor':
            assert getattr(times, name) == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize('seed', range(5))
def test_no_coefficient_is_negative(seed):
    """Times that fall with the length would fit best with negative slopes."""
    rng = random.Random(seed)
    times, _ = fit({kind: [[n, rng.uniform(0.5, 1.5) / n] for n in LENGTHS] for kind in ESTIMATORS})
    assert all(value >= 0 for value in dataclasses.asdict(times).values())


@pytest.mark.parametrize('columns', [1, 2, 3])
def test_nonnegative_least_squares_is_no_worse_than_any_other_solution(columns):
    """In relative error, against random non-negative solutions near and far."""
    rng = random.Random(columns)
    x = [[rng.uniform(0, 1) for _ in range(6)] for _ in range(columns)]
    t = [rng.uniform(0.5, 1.5) for _ in range(6)]

    def error(solution):
        return sum((sum(s * column[i] for s, column in zip(solution, x, strict=True)) / t[i] - 1) ** 2
                   for i in range(6))

    best = fit_nonnegative(x, t)
    assert (best >= 0).all()
    for _ in range(2000):
        other = [max(0.0, s + rng.gauss(0, rng.choice([0.01, 0.1, 1]))) for s in best]
        assert error(other) >= error(best) - 1e-12


def test_prefill_does_not_fall_below_the_shortest_time_measured():
    """A GPU's prefill is flat at short lengths, which the parabola alone would miss."""
    flat = [[n, max(0.02, 1e-5 * n)] for n in (16, 64, 256, 1024, 4096, 16384)]
    times, _ = fit({'prefill': flat, 'step': [[1, 0.01], [1000, 0.02]]})
    assert times.prefill_floor == 0.02
    assert times.prefill(0) >= 0.02
    assert ExecutionTimes(a=0, b=1e-3, c=0, p=0, q=0, prefill_floor=0.5).prefill(100) == 0.5


@pytest.mark.parametrize('points', [
    {},
    {'prefill': [[1, 0.1], [2, 0.1]]},
    {'prefill': [[1, 0.1], [1, 0.2]], 'step': [[1, 0.1], [2, 0.1]]},
])
def test_fit_needs_two_lengths(points):
    with pytest.raises(ProfileError, match='two lengths'):
        fit(points)


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
    points = synthetic_points(0.02)
    times, errors = fit(points)
    profile = Profile(IDENTITY, times, '2026-01-31', {'torch': '2.13.0'}, errors, points)
    path = tmp_path / 'new folder' / 'profile.yaml'
    profile.save(path)
    assert Profile.load(path) == profile
    assert [p.name for p in path.parent.iterdir()] == ['profile.yaml']  # nothing half-written is left


def document(**changes):
    """A profile as YAML data with some of it changed; a value of None leaves the key out."""
    data = {'format': 1, 'identity': dataclasses.asdict(IDENTITY), 'times': dataclasses.asdict(TRUE)}
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
    ('', "format 1 .*'NoneType'"),
    ('just words', "format 1 .*'str'"),
    ('- 1', "format 1 .*'list'"),
    (document(format=None), 'format 1 .*None'),
    (document(format=2), 'format 1 .*2'),
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
    yaml.unsafe_load(path.read_text())  # the payload is a real one
    assert proof.exists()


@pytest.mark.parametrize('field', [field.name for field in dataclasses.fields(Identity)])
def test_another_devices_profile_is_refused(field):
    Profile(IDENTITY, TRUE).check(IDENTITY, 'p.yaml')
    other = dataclasses.replace(IDENTITY, **{field: 'something else'})
    with pytest.raises(ProfileError) as caught:
        Profile(IDENTITY, TRUE).check(other, 'p.yaml')
    for part in ('p.yaml', f'{field} ', repr(getattr(IDENTITY, field)), "'something else'"):
        assert part in str(caught.value)
