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

"""What a server's answers taught is there after a restart; a file that cannot be used costs a line in the log."""
import json
import logging
import math

import pytest
from fake_caller import OffboardHarness

from timebill_ros.dispatch.offboard.kept_times import EVERY_S, MOST_BYTES
from timebill_ros.dispatch.offboard.served_times import ServedTimes
from timebill_ros.planning.forgetting import forget


def node(folder, **settings):
    """A dispatcher that keeps what it learns in `folder`; one after the other is the same node, started again."""
    return OffboardHarness(**{'cache_dir': str(folder), 'keep_state': True, **settings}).configured()


def answered(harness, n=5, took_s=0.5):
    for _ in range(n):
        job = harness.ask()
        harness.now += took_s
        harness.server_ends(job, first_s=harness.now - took_s / 2)
    return harness


def file_in(folder):
    found = list((folder / 'state').glob('*'))
    assert len(found) <= 1
    return found[0] if found else None


def test_a_state_is_what_was_learned():
    times = ServedTimes()
    times.first_token(100, 1.0, 0.2)
    times.first_token(200, math.inf, 0.3)
    times.tokens(10, 0.9)
    times.complete(10, 1.2, at_limit=True)
    times.failed(3.0, began=False)
    state = json.loads(json.dumps(times.state(), allow_nan=False))
    again = ServedTimes.of(state)
    assert again.state() == times.state() and again.usual_s == 1.2
    for silence_s in (1.0, 100.0):
        assert str(again.expect(150, silence_s, 50, 0.9)) == str(times.expect(150, silence_s, 50, 0.9))
    assert math.isfinite(again.expect(150, 1.0, 50, 0.9).expected_s)


def test_lengths_of_answers_that_were_cut_are_kept_also_as_they_once_were():
    times = ServedTimes()
    times.complete(10, 1.2, at_limit=False)
    times.cut_off(7, 0.9, 0.1)
    state = times.state()
    assert state['lengths'] == [10, -7]
    state['lengths'].append(None)  # nothing but that it was cut
    assert ServedTimes.of(state).state() == state


def test_a_node_that_starts_again_knows_the_server(tmp_path):
    answered(node(tmp_path)).dispatcher.close()
    path = file_in(tmp_path)
    assert json.loads(path.read_text())['offboard'] == {'url': 'http://server/v1', 'model': 'large'}
    again = node(tmp_path)
    assert again.dispatcher.tier.seconds == 0.5
    assert again.ask().timing.offboard_verdict.name == 'AT_RISK', 'it is not UNKNOWN: its usual answer fits'
    again.dispatcher.close()
    for other in ({'offboard_model': 'larger'}, {'offboard_url': 'http://another/v1'}, {'keep_state': False}):
        fresh = node(tmp_path, **other)
        assert fresh.dispatcher.tier.seconds == 0.0
        fresh.dispatcher.close()


def test_it_is_written_now_and_then_and_only_where_that_is_wanted(tmp_path):
    harness = answered(node(tmp_path))
    assert file_in(tmp_path) is None
    harness.now += EVERY_S
    answered(harness, 1)
    harness.dispatcher.tier._kept._writer.join(10.0)
    written = file_in(tmp_path).read_text()
    answered(harness, 1)
    assert file_in(tmp_path).read_text() == written
    harness.dispatcher.close()
    assert file_in(tmp_path).read_text() != written
    for number, settings in enumerate(({'keep_state': False}, {})):
        harness = node(tmp_path / str(number), **settings)
        if not settings:  # nothing was learned
            harness.submit()
        else:
            answered(harness)
        harness.dispatcher.close()
        assert not (tmp_path / str(number)).exists()


def points(value):
    return json.dumps({'format': 1, 'offboard': {'url': 'http://server/v1', 'model': 'large'}, 'times': {
        'points': value, 'ratios': [[]] * 5, 'per_token': [], 'lengths': [], 'whole': []}})


@pytest.mark.parametrize('text', [
    '', '{', '[]', '{"format": 1}', '{"format": 9, "offboard": {}}', 'x' * (MOST_BYTES + 1), '[' * 100_000,
    points([[1]]), points([[1, -1]]), points([[1, 'a']]), points([[1, True]]), points([[1, math.nan]]),
    points([[1, 10 ** 400]]), points(3), points([[1, 0.5]]).replace('[]]', ']'),
    points([[1, 0.5]]).replace('large', 'another')])
def test_a_file_that_cannot_be_used_is_told_once_and_set_aside(tmp_path, caplog, text):
    answered(node(tmp_path)).dispatcher.close()
    path = file_in(tmp_path)
    path.write_text(text)
    with caplog.at_level(logging.WARNING):
        harness = node(tmp_path)
    told, = [record.getMessage() for record in caplog.records if 'offboard_url taught' in record.msg]
    assert f'set aside as {path.name}.corrupt' in told
    assert harness.dispatcher.tier.seconds == 0.0 and not path.exists()
    answered(harness).dispatcher.close()
    assert path.exists() and path.stat().st_size < 4096


def test_whatever_comes_the_file_stays_small(tmp_path):
    times = ServedTimes()
    for number in range(2000):
        for silence_s in (1.0, 10.0, 100.0, 1000.0, 10_000.0):
            times.first_token(number, silence_s, math.pi * (1 + number % 7))
        times.tokens(10, math.pi)
        times.complete(10, math.e, at_limit=False)
    assert len(json.dumps(times.state())) < MOST_BYTES / 2


def test_a_user_may_have_it_forgotten(tmp_path, caplog):
    harness = answered(node(tmp_path))
    harness.now += EVERY_S
    answered(harness, 1)
    harness.dispatcher.tier._kept._writer.join(10.0)
    assert harness.dispatcher.tier.seconds == 0.5
    removed, = forget(tmp_path)
    assert removed.content == 'times of the server at http://server/v1, asked for large'
    with caplog.at_level(logging.INFO):
        harness.ask()
        harness.sync()
    assert harness.dispatcher.tier.seconds == 0.0 and 'is forgotten, as asked' in caplog.text
    harness.dispatcher.close()
    assert file_in(tmp_path) is None


def test_what_was_being_written_while_a_user_had_it_forgotten_is_gone(tmp_path):
    harness = answered(node(tmp_path))
    harness.now += EVERY_S
    answered(harness, 1)
    kept = harness.dispatcher.tier._kept
    kept._writer.join(10.0)
    path, text = file_in(tmp_path), file_in(tmp_path).read_text()
    forget(tmp_path)
    path.write_text(text)  # by a write that had begun before, and that ends before the node looks
    harness.ask()
    harness.sync()
    assert file_in(tmp_path) is None
    kept._write(text, 0)  # by one that ends after that
    assert file_in(tmp_path) is None
    path.write_text('what another node has learned since')
    kept._remove(text)
    assert path.exists()
    harness.dispatcher.close()


def test_what_could_not_be_written_is_tried_again(tmp_path):
    (tmp_path / 'state').write_text('no folder')
    harness = answered(node(tmp_path))
    harness.now += EVERY_S
    answered(harness, 1)
    harness.dispatcher.tier._kept._writer.join(10.0)
    (tmp_path / 'state').unlink()
    harness.dispatcher.close()  # with nothing learned since
    assert file_in(tmp_path) is not None


def test_a_folder_that_cannot_be_written_to_is_told_once(tmp_path, caplog):
    (tmp_path / 'state').write_text('no folder')
    harness = answered(node(tmp_path))
    for _ in range(2):
        harness.now += EVERY_S
        answered(harness, 1)
        harness.dispatcher.tier._kept._writer.join(10.0)
    harness.dispatcher.close()
    assert [record.levelname for record in caplog.records if 'could not be saved' in record.message] == ['WARNING']
