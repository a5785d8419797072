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

"""Lengths learned from hidden states in service: when the head is fitted, trusted, given up, kept and forgotten."""
import logging
import os
import threading
import time

import numpy as np
import pytest

from timebill_ros.length import state_labels, state_learner
from timebill_ros.length.hidden_state_head import FEWEST
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.observed_lengths import ObservedLengths
from timebill_ros.length.refitting import ENOUGH, LEAST_NEW, MOST_NEW
from timebill_ros.length.state_labels import CAPACITY
from timebill_ros.length.state_learner import StateLearner

WIDTH, LIMIT, N_X = 16, 256, 500


class Robot:
    """Goals answered in service. States tell the lengths by `tells`; where `turned`, they tell the opposite."""

    def __init__(self, seed=0, tells=1.0, **options):
        self.draw, self.tells, self.turned = np.random.default_rng(seed), tells, False
        self.learner = StateLearner(WIDTH, 2, **options)
        self.observed = ObservedLengths()
        self.differences = []  # of a goal: absolute error with the learner less that without it
        self.predictions = []

    def ask(self, n=1, limit=LIMIT):
        for _ in range(n):
            state = self.draw.normal(size=WIDTH) * 50
            log2 = 5.5 + (-1 if self.turned else 1) * self.tells * state[0] / 50 + 0.3 * self.draw.normal()
            length = max(1, int(2 ** log2))
            without = self.observed.distribution(N_X, limit)
            found = self.learner.predict(state, without)
            came = min(length, limit)
            self.differences.append(abs(min(found.distribution.median(), limit) - came) -
                                    abs(min(without.median(), limit) - came))
            self.predictions.append(found)
            self.observed.observe(N_X, limit, came, whole=length <= limit)
            self.learner.observe(found, came, whole=length <= limit)
            self.learner.refit_if_due()
            self.learner.wait()

    @property
    def used(self):
        return [found.by_head for found in self.predictions]


def test_it_learns_in_service_and_is_better_than_without_states():
    robot = Robot()
    robot.ask(200)
    assert not any(robot.used[:FEWEST]) and all(robot.used[100:])
    assert robot.predictions[0].distribution.median() == LIMIT // 2, 'before anything was seen, nothing is known'
    assert np.mean(robot.differences[50:]) < -10
    assert robot.predictions[-1].distribution.bucket_size == robot.learner.head.bucket_size


@pytest.mark.parametrize('seed', range(3))
def test_states_that_say_nothing_cost_nothing(seed):
    robot = Robot(seed, tells=0.0)
    robot.ask(200)
    assert np.mean(robot.differences) < 1.0


def test_answers_that_are_all_cut_teach_that_they_are_long():
    robot = Robot()
    robot.ask(120, limit=24)
    state = np.zeros(WIDTH)
    state[0] = 50
    found = robot.learner.predict(state + 1e-3, robot.observed.distribution(N_X, 24))
    assert found.distribution.tail(24) > 0.5


def test_after_a_change_it_is_no_worse_than_without_states_and_then_learns_the_new(monkeypatch):
    """With an eighth of the labels, so that the test is short."""
    monkeypatch.setattr(state_labels, 'CAPACITY', 128)
    monkeypatch.setattr(state_labels, 'HALF_LIFE', 64)
    robot = Robot()
    robot.ask(120)
    assert all(robot.used[-40:])
    robot.turned = True
    robot.ask(120)
    assert not all(robot.used[120:240]), 'the comparison of the last goals finds it out'
    robot.ask(160)
    assert all(robot.used[-40:]) and np.mean(robot.differences[-60:]) < -5.0, 'the old is forgotten'


def test_the_last_goals_decide_once_enough_were_compared():
    robot = Robot()
    robot.ask(60)
    learner = robot.learner
    assert learner.head_is_used and learner.head.is_better
    learner._gains.clear()
    learner._gains.extend([-1.0] * (ENOUGH - 1))
    assert learner.head_is_used and not learner.is_sure, 'so few decide nothing'
    learner._gains.append(-1.0)
    assert not learner.head_is_used and learner.is_sure
    state, without = np.ones(WIDTH), robot.observed.distribution(N_X, LIMIT)
    found = learner.predict(state, without)
    assert found.distribution is without and not found.by_head and found.cdfs is not None
    learner._gains.extend([10.0] * 50)
    assert learner.head_is_used


def test_nothing_is_sure_where_most_answers_were_cut():
    robot = Robot()
    robot.ask(FEWEST + ENOUGH + 5, limit=14)
    assert len(robot.learner._gains) >= ENOUGH and not robot.learner.is_sure
    robot.ask(ENOUGH + 10)
    assert robot.learner.is_sure


def test_a_state_that_is_not_finite_predicts_nothing():
    learner = StateLearner(4, 1)
    assert learner.predict(np.array([1.0, np.nan, 0, 0]), LengthDistribution.point(5)) is None
    assert learner.predict(np.array([1.0, np.inf, 0, 0]), LengthDistribution.point(5)) is None


def test_nothing_comes_of_an_answer_without_tokens():
    learner = StateLearner(4, 1)
    learner.observe(learner.predict(np.ones(4), LengthDistribution.point(5)), 0, whole=False)
    assert len(learner.labels) == 0


def test_fits_become_rarer_as_labels_become_many(monkeypatch):
    fits = []
    learner = StateLearner(3, 1)
    monkeypatch.setattr(state_learner, 'fit', lambda states, labels: fits.append(learner.labels.seen))
    for _ in range(CAPACITY + 300):
        learner.observe(learner.predict(np.ones(3), LengthDistribution.point(9)), 9, whole=True)
        learner.refit_if_due()
        learner.wait()
    steps = np.diff(fits)
    assert fits[0] == FEWEST and steps[0] == LEAST_NEW and len(fits) < 70
    assert (np.diff(steps) >= 0).all() and steps.max() == MOST_NEW


def test_a_fit_that_is_under_way_is_not_waited_for_and_not_doubled(monkeypatch):
    going_on, fits = threading.Event(), []

    def slow(states, labels):
        fits.append((len(states), os.getpriority(os.PRIO_PROCESS, 0)))
        going_on.wait(20)

    monkeypatch.setattr(state_learner, 'fit', slow)
    learner = StateLearner(3, 1)
    started = time.monotonic()
    for _ in range(40):
        learner.observe(learner.predict(np.ones(3), LengthDistribution.point(9)), 9, whole=True)
        learner.refit_if_due()
    assert time.monotonic() - started < 10
    going_on.set()
    learner.wait()
    assert fits == [(FEWEST, 19)], 'and it gives way to everything else'
    learner.refit_if_due()
    learner.wait()
    assert [n for n, _ in fits] == [FEWEST, 40]


def test_a_fit_that_fails_leaves_the_head_as_it_was(monkeypatch, caplog):
    robot = Robot()
    robot.ask(40)
    head = robot.learner.head
    monkeypatch.setattr(state_learner, 'fit', lambda states, labels: 1 / 0)
    with caplog.at_level(logging.ERROR):
        robot.ask(20)
    assert robot.learner.head is head and 'could not be fitted' in caplog.text


def test_it_goes_on_from_its_file_and_forgets_on_demand(tmp_path):
    path = tmp_path / 'states.safetensors'
    robot = Robot(path=path, model='tiny')
    robot.ask(80)
    robot.learner.save()
    again = StateLearner(WIDTH, 2, path=path)
    assert again.load() and len(again.labels) == 80 and again.head_is_used
    state, without = np.ones(WIDTH), robot.observed.distribution(N_X, LIMIT)
    one, other = (learner.predict(state, without).distribution for learner in (robot.learner, again))
    assert abs(one.median() - other.median()) <= 3 * one.bucket_size
    again.forget()
    assert again.head is None and len(again.labels) == 0 and not again.head_is_used
    again.save()
    assert StateLearner(WIDTH, 2, path=path).load(), 'nothing new, so nothing was written'


def test_while_goals_go_on_only_many_new_labels_are_written(tmp_path):
    path = tmp_path / 'states.safetensors'
    learner = StateLearner(3, 1, path=path)

    def observe(n):
        for _ in range(n):
            learner.observe(learner.predict(np.ones(3), LengthDistribution.point(9)), 9, whole=True)

    observe(MOST_NEW - 1)
    learner.save(ends=False)
    assert not path.exists()
    observe(1)
    learner.save(ends=False)
    assert path.exists()
    observe(1)
    learner.save(ends=True)
    again = StateLearner(3, 1, path=path)
    assert again.load() and len(again.labels) == MOST_NEW + 1


def test_without_a_path_nothing_is_kept():
    learner = StateLearner(3, 1)
    learner.save()
    assert not learner.load()


def test_looks_at_answers_are_learned_from_kept_and_forgotten_too(tmp_path):
    path = tmp_path / 'states.safetensors'
    learner = StateLearner(3, 1, path=path, last_width=2)
    for i in range(FEWEST):
        prediction = learner.predict(np.ones(3), LengthDistribution.point(99))
        answer = learner.remaining.of_answer(prediction.state, prediction.distribution,
                                             lambda: (np.ones(2), np.ones(2)))
        answer(32)
        learner.observe(prediction, 40 + i, whole=True)
        answer.observe(40 + i, whole=True)
    learner.refit_if_due()
    learner.wait()
    assert set(learner.remaining.heads) == {32}
    learner.save()
    again = StateLearner(3, 1, path=path, last_width=2)
    assert again.load()
    again.wait()
    assert set(again.remaining.heads) == {32} and again.remaining.labels.at(32)[1].tolist() == [8 + i for i in
                                                                                              range(FEWEST)]
    again.forget()
    assert not again.remaining.heads and len(again.remaining.labels) == len(again.labels.looks) == 0
    again.remaining.labels.add(32, np.ones(7), 5, whole=True)
    assert len(again.labels.looks) == 1, 'what is learned from now on is what is kept'


def test_without_states_of_answers_none_are_looked_at():
    assert StateLearner(3, 1).remaining is None
