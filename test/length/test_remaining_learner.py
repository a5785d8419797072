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


"""What is left of answers, learned from looks at them: when it is better than the conditional, trusted, given up."""
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from timebill_ros.length import remaining_learner
from timebill_ros.length.hidden_state_head import FEWEST
from timebill_ros.length.label_grid import crps_of, left_on_grid
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.look_labels import AGES, LookLabels
from timebill_ros.length.observed_lengths import ObservedLengths
from timebill_ros.length.refitting import ENOUGH
from timebill_ros.length.remaining_learner import RemainingLearner

H, LIMIT, N_X, GRID = 8, 256, 500, 8  # GRID: tokens between two edges at which predictions are scored


@pytest.fixture
def learner():
    with ThreadPoolExecutor(1) as executor:
        yield RemainingLearner(LookLabels(3 * H), H, executor)


class Robot:
    """Goals answered in service. An answer's own states tell its length by `tells`; its prompt's says nothing."""

    def __init__(self, learner, seed=0, tells=1.0):
        self.learner, self.tells, self.turned = learner, tells, False
        self.draw, self.observed = np.random.default_rng(seed), ObservedLengths()
        self.gains = []  # tokens of CRPS by which what was planned with was better than the conditional distribution

    def ask(self, n=1, limit=LIMIT, every=32):
        for number in range(1, n + 1):
            hint = self.draw.normal()
            length = max(1, int(2 ** (6.5 + (-1 if self.turned else 1) * self.tells * hint + 0.3 * self.draw.normal())))
            came, without = min(length, limit), self.observed.distribution(N_X, limit)

            def read(hint=hint):
                states = self.draw.normal(size=(2, H))
                states[:, 0] += 3 * hint
                return tuple(states)

            self.answer = self.learner.of_answer(self.draw.normal(size=H).astype(np.float32), without, read)
            for at in range(every, came, every):
                found = self.answer(at)
                with_it, base = (crps_of(left_on_grid(one, at, GRID, 31), GRID, came - at, whole=length <= limit)
                                 for one in (found, without))
                self.gains.append(base - with_it)
            self.observed.observe(N_X, limit, came, whole=length <= limit)
            self.answer.observe(came, whole=length <= limit)
            if number % 16 == 0 or number == n:
                self.learner.refit_if_due()
                self.learner.wait()


def test_it_learns_in_service_and_is_better_than_the_conditional_distribution(learner):
    robot = Robot(learner)
    robot.ask(FEWEST - 1)
    assert robot.gains == [0.0] * len(robot.gains), 'nothing was learned yet'
    robot.ask(150)
    robot.gains.clear()
    robot.ask(60)
    assert learner.head_is_used(32) and learner.head_is_used(64) and np.mean(robot.gains) > 5.0
    assert all(look.by_head for look in robot.answer.looks if look.age < 128)


@pytest.mark.parametrize('seed', range(3))
def test_states_that_say_nothing_cost_nothing(learner, seed):
    robot = Robot(learner, seed, tells=0.0)
    robot.ask(150)
    assert np.mean(robot.gains) > -0.5


def test_after_a_change_the_conditional_distribution_is_planned_with(learner):
    robot = Robot(learner)
    robot.ask(150)
    assert learner.head_is_used(32)
    robot.turned = True
    robot.ask(100)
    robot.gains.clear()
    assert not learner.head_is_used(32), 'the comparison of the last looks finds it out'


def test_the_last_looks_decide_at_each_age_by_itself(learner):
    Robot(learner).ask(150)
    learner._gains[32].extend([-50.0] * 100)
    assert not learner.head_is_used(32) and learner.head_is_used(64)
    base, states = LengthDistribution(8, np.full(32, 1 / 32)), np.ones(3 * H, np.float32)
    found = learner.look(states, 40, base)
    assert found.distribution is base and not found.by_head and found.cdfs is not None, 'it goes on being compared'
    assert learner.look(states, 70, base).by_head


def test_what_it_predicts_is_longer_than_what_has_come(learner):
    Robot(learner).ask(120)
    base = LengthDistribution(8, np.full(32, 1 / 32))
    for n in (32, 45, 95):
        found = learner.look(np.ones(3 * H, np.float32), n, base).distribution
        assert found.tail(n + 1) == pytest.approx(1.0) and found.quantile(1e-6) > n
        assert 1.0 >= found.tail(n + 40) > found.tail(n + 150)
    beyond = learner.look(np.ones(3 * H, np.float32), 500, base)
    assert beyond.age == 384 and beyond.distribution is base, 'no answer was so long'


def test_each_age_is_learned_from_once_by_an_answer_and_every_look_is_compared(learner):
    robot = Robot(learner)
    robot.ask(100)
    seen, compared = dict(learner.labels.seen), {age: len(learner._gains[age]) for age in AGES}
    answer = learner.of_answer(np.ones(H, np.float32), LengthDistribution(8, np.full(32, 1 / 32)),
                               lambda: (np.ones(H), np.ones(H)))
    for n in (8, 20, 40, 64, 70, 80):
        answer(n)
    answer.observe(80, whole=False)
    more = {age: learner.labels.seen[age] - seen[age] for age in AGES if learner.labels.seen[age] > seen[age]}
    assert more == {16: 1, 32: 1, 64: 1}, 'cut at the last look, which says nothing'
    assert [len(learner._gains[age]) - compared[age] for age in (32, 64)] == [1, 2]
    _, left, whole = learner.labels.at(64)
    assert (left[-1], whole[-1]) == (16, False)


def test_states_that_are_not_finite_predict_and_teach_nothing(learner):
    base = LengthDistribution.point(99)
    answer = learner.of_answer(np.ones(H, np.float32), base, lambda: (np.ones(H), np.full(H, np.nan)))
    assert answer(32) is base
    answer.observe(40, whole=True)
    assert len(learner.labels) == 0


def test_a_bug_costs_no_answer(learner, caplog):
    base = LengthDistribution.point(99)
    answer = learner.of_answer(np.ones(H, np.float32), base, lambda: 1 / 0)
    with caplog.at_level(logging.ERROR):
        assert answer(32) is base
    assert 'could not be predicted' in caplog.text


def test_a_fit_that_fails_leaves_the_head_as_it_was(learner, monkeypatch, caplog):
    robot = Robot(learner)
    robot.ask(60)
    head = learner.heads[32]
    monkeypatch.setattr(remaining_learner, 'fit_looks', lambda *given: 1 / 0)
    with caplog.at_level(logging.ERROR):
        robot.ask(40)
    assert learner.heads[32] is head and 'could not be fitted' in caplog.text


def test_a_head_is_fitted_to_the_newest_looks_however_many_there_are(learner, monkeypatch):
    fitted = []
    monkeypatch.setattr(remaining_learner, 'CAPACITY', 20)
    monkeypatch.setattr(remaining_learner, 'fit_looks', lambda states, width, labels: fitted.append(labels))
    for left in range(1, 51):
        learner.labels.add(32, np.ones(3 * H), left, whole=True)
    learner.refit_if_due()
    learner.wait()
    assert [len(found) for found in fitted] == [20] and fitted[0].bucket_size == 2, 'those with 31 to 50 left'
    assert learner.labels.at(32, 20)[1].tolist() == list(range(31, 51))


def test_what_an_answer_was_planned_with_is_not_kept_until_its_end(learner):
    robot = Robot(learner)
    robot.ask(120)
    base = LengthDistribution(8, np.full(32, 1 / 32))
    answer = learner.of_answer(np.ones(H, np.float32), base, lambda: (np.ones(H), np.ones(H)))
    assert answer(32) is not base and answer.looks[0].by_head
    assert answer.looks[0].distribution is base and answer.looks[0].states is not None


def test_forgetting_starts_anew(learner):
    Robot(learner).ask(150)
    learner.forget(LookLabels(3 * H))
    assert not learner.heads and len(learner.labels) == 0 and not any(map(learner.head_is_used, AGES))
    assert len(learner._gains[32]) < ENOUGH
