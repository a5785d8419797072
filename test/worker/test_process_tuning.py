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

"""Freed memory is kept, nothing is collected while decoding, and cores and priorities are as asked or refused."""
import gc
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from timebill_ros.worker import process_tuning

ROOT = Path(__file__).parents[2]


def on_a_thread(work):
    """What `work` returns on a thread of its own: affinity and priority belong to a thread, and end with it."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


FAULTS = '''
import resource, torch
from timebill_ros.worker.process_tuning import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12 << 18).exp()  # 12 MiB, twice
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
{call}
faults()
print(faults())
'''


@pytest.mark.parametrize(('call', 'few'), [
    pytest.param('', False, marks=pytest.mark.slow), ('assert keep_freed_memory()', True)])
def test_what_is_freed_comes_back_without_the_kernel(call, few):
    """In a process of its own. 12 MiB are 3072 pages; each is a page fault where the kernel hands them out again."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'GLIBC_TUNABLES': 'glibc.malloc.mmap_threshold=131072'}
    done = subprocess.run([sys.executable, '-c', FAULTS.format(call=call)], env=env, check=True, capture_output=True,
                          text=True)
    assert (int(done.stdout) < 1000) is few


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(process_tuning.ctypes, 'CDLL', lambda name: object())
    assert not process_tuning.keep_freed_memory()


def test_the_engine_decodes_without_collecting():
    from engine_bench import Bench
    seen = []
    bench = Bench(on_step=lambda i: seen.append(gc.isenabled()))
    bench.run()
    assert seen and not any(seen) and gc.isenabled()


@pytest.mark.parametrize(('text', 'cores'), [('0', {0}), ('0,2-4', {0, 2, 3, 4}), (' 1 , 3 ', {1, 3}), ('2-2', {2})])
def test_cores(text, cores):
    assert process_tuning.parse_cores(text) == cores


@pytest.mark.parametrize('text', ['x', '0-', '3-1', '-1', '0,,1', '1.5', ' '])
def test_what_names_no_cores(text):
    with pytest.raises(ValueError, match='cpu_affinity') as caught:
        process_tuning.parse_cores(text)
    assert repr(text) in str(caught.value)


def test_a_thread_is_bound_to_cores():
    core = min(os.sched_getaffinity(0))

    def work():
        process_tuning.use_cores('')
        before = os.sched_getaffinity(0)
        process_tuning.use_cores(str(core))
        return before, os.sched_getaffinity(0)

    before, after = on_a_thread(work)
    assert before == os.sched_getaffinity(0) and after == {core}


def test_cores_that_there_are_not():
    with pytest.raises(ValueError, match="'4000' cannot be had.*may use cores"):
        process_tuning.use_cores('4000')


def test_niceness_is_never_less_than_it_was():
    def work(value):
        process_tuning.be_nice(value)
        return os.getpriority(os.PRIO_PROCESS, 0)

    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert on_a_thread(lambda: work(0)) == own
    assert on_a_thread(lambda: work(19)) == 19


@pytest.mark.parametrize(('inherited', 'expected'), [
    (os.SCHED_OTHER, []), (os.SCHED_FIFO, [(0, os.SCHED_OTHER, 0)]), (os.SCHED_RR, [(0, os.SCHED_OTHER, 0)])])
def test_a_real_time_priority_is_not_inherited(inherited, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(os, 'sched_getscheduler', lambda pid: inherited)
    monkeypatch.setattr(os, 'sched_setscheduler', lambda pid, policy, parameters: asked.append(
        (pid, policy, parameters.sched_priority)))
    process_tuning.be_ordinary()
    assert asked == expected


@pytest.mark.parametrize('permitted', [True, False])
def test_real_time_is_had_or_there_is_a_sentence(permitted, monkeypatch, caplog):
    asked = []

    def schedule(pid, policy, parameters):
        asked.append((pid, policy, parameters.sched_priority))
        if not permitted:
            raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'sched_setscheduler', schedule)
    with caplog.at_level(logging.WARNING):
        assert process_tuning.be_real_time(0) and asked == []
        assert process_tuning.be_real_time(7) is permitted
    assert asked == [(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, 7)]
    assert ('realtime_priority 7 is not permitted' in caplog.text) is not permitted
