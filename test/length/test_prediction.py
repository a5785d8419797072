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

"""Predictions run on a thread of their own, with their own number of threads, and say when they ran."""
import threading

import pytest
import tiny_models
import torch

from timebill_ros.length import length_predictor
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.prediction import Prediction, PredictionExecutor, collect

LENGTHS = LengthDistribution.from_lengths([10, 30], 16, 4)


class Predictor:
    """Stands in for a length predictor; each prediction waits for `release` and then calls `during`."""

    device = torch.device('cpu')

    def __init__(self, during=lambda text: None):
        self.during, self.calls = during, []
        self.started, self.release = threading.Event(), threading.Event()
        self.release.set()

    def predict(self, text, *, max_input_tokens):
        self.started.set()
        assert self.release.wait(30)
        self.calls.append((text, max_input_tokens))
        self.during(text)
        return LENGTHS

    def marginal(self):
        return LENGTHS


@pytest.fixture
def run():
    """Start executors; all are released and closed at the end."""
    executors = []

    def start(predictor, **options):
        executors.append(PredictionExecutor(predictor, **options))
        return executors[-1]

    yield start
    for executor in executors:
        getattr(executor.predictor, 'release', threading.Event()).set()
        executor.close()


def test_a_prediction_carries_the_distribution_and_its_times_on_the_given_clock(run):
    predictor, ticks = Predictor(), iter([3.0, 7.5])
    prediction = run(predictor, clock=lambda: next(ticks)).submit('w9', 40).result(timeout=30)
    assert prediction == Prediction(LENGTHS, 3.0, 7.5) and prediction.seconds == 4.5
    assert predictor.calls == [('w9', 40)]


@pytest.mark.parametrize(('prefill', 'hidden'), [
    ((0.0, 10.0), 2.0),  # prefill starts before the prediction and ends after it
    ((3.0, 4.5), 1.5),  # prefill ends before the prediction
    ((4.0, 9.0), 1.0),  # prefill starts after the prediction
    ((3.5, 4.0), 0.5),  # prefill lies within the prediction
    ((5.0, 9.0), 0.0),  # no overlap
    ((0.0, 1.0), 0.0),
])
def test_the_hidden_part_is_what_ran_while_prefill_ran(prefill, hidden):
    assert Prediction(LENGTHS, 3.0, 5.0).hidden_s(*prefill) == hidden


@pytest.mark.parametrize('threads', [1, 3])
def test_the_thread_count_is_the_predictors_own(threads, run):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        inside = []
        executor = run(Predictor(lambda text: inside.append(torch.get_num_threads())), threads=threads)
        assert torch.get_num_threads() == 2
        executor.submit('w9', 40).result(timeout=30)
        (torch.ones(300, 300) @ torch.ones(300, 300)).sum()  # parallel work leaves this thread's count as it is
        assert inside == [threads] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_it_runs_beside_the_calling_thread_and_one_at_a_time(run):
    threads = []
    predictor = Predictor(lambda text: threads.append(threading.current_thread()))
    executor = run(predictor)
    predictor.release.clear()
    futures = [executor.submit(f'w{i}', 40) for i in range(5)]
    assert predictor.started.wait(30) and not any(future.done() for future in futures)
    predictor.release.set()
    for future in futures:
        future.result(timeout=30)
    assert [text for text, _ in predictor.calls] == [f'w{i}' for i in range(5)]
    assert len(set(threads)) == 1 and threads[0] is not threading.current_thread()


def test_late_predictions_do_not_pile_up(run):
    predictor = Predictor()
    executor = run(predictor)
    predictor.release.clear()
    running = executor.submit('w0', 40)
    assert predictor.started.wait(30)
    assert [collect(executor.submit(f'w{i}', 40), 0.0) for i in range(1, 4)] == [None] * 3
    assert collect(running, 0.0) is None and not running.cancelled(), 'one that has begun goes on'
    predictor.release.set()
    assert executor.submit('w4', 40).result(timeout=30).distribution is LENGTHS
    assert [text for text, _ in predictor.calls] == ['w0', 'w4'], 'nothing waits for predictions that nobody wants'


def test_a_failure_reaches_the_caller_and_the_next_prediction_works(run):
    def during(text):
        if text == 'bad':
            raise ValueError('no length for bad')

    executor = run(Predictor(during))
    with pytest.raises(ValueError, match='no length for bad'):
        executor.submit('bad', 40).result(timeout=30)
    assert executor.submit('good', 40).result(timeout=30).distribution is LENGTHS


def test_closing_does_not_wait_and_cancels_what_has_not_started(run):
    predictor = Predictor()
    executor = run(predictor)
    predictor.release.clear()
    running, waiting = executor.submit('w9', 40), executor.submit('w10', 40)
    assert predictor.started.wait(30)
    executor.close()
    assert waiting.cancelled() and not running.done()
    predictor.release.set()
    assert running.result(timeout=30).distribution is LENGTHS
    with pytest.raises(RuntimeError):
        executor.submit('w11', 40)


def test_a_real_predictor(run):
    predictor = length_predictor.load(tiny_models.predictor_directory(), device=torch.device('cpu'))
    executor = run(predictor, threads=1)
    text = ' '.join(f'w{i}' for i in tiny_models.prompt_ids(100))
    whole, bounded = (executor.submit(text, bound).result(timeout=30) for bound in (1000, 8))
    assert whole.distribution.to_list() == predictor.predict(text).to_list()
    assert whole.distribution.to_list() != bounded.distribution.to_list(), 'the bound on the input has no effect'
    assert whole.seconds > 0 and executor.marginal().n_buckets == 4
