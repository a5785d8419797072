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

"""The inference process: `python -m timebill_ros.worker.main --fd N`. The node starts it; it ends when its pipe closes.

It imports torch, but not before `configure`, not at all for a script (scripted.py), and never rclpy. Three threads: the
main one serves commands, one after the other; the reader takes messages, so that a cancel reaches a running request
(steering.py); the streamer turns tokens into text and sends it, so that the node holds the text so far whatever happens
here (streamer.py).
"""
from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import queue
import shutil
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from timebill_ros.codes import ErrorCode, FinishReason
from timebill_ros.dispatch.channel import Channel
from timebill_ros.forgotten import Forgetting
from timebill_ros.inference import one_time_work, start_progress
from timebill_ros.inference.memory import goal_sentence, is_out_of_memory, loading_sentence
from timebill_ros.inference.threads import wait_briefly
from timebill_ros.request import Outcome, Request, Timing, to_dict
from timebill_ros.resources import cache_directory, steps_directory
from timebill_ros.timing.drift import is_unusual
from timebill_ros.worker import process_tuning, questions
from timebill_ros.worker.cache_bound import hold_bound
from timebill_ros.worker.empty_answers import EmptyAnswers
from timebill_ros.worker.goal_control import control_of
from timebill_ros.worker.log_lines import send_to_node, take_transformers_along
from timebill_ros.worker.missing_library import missing_library
from timebill_ros.worker.scratch_cache import usable_cache
from timebill_ros.worker.start_report import StartReport
from timebill_ros.worker.steering import Steering
from timebill_ros.worker.streamer import Streamer

if TYPE_CHECKING:
    from timebill_ros.worker.assembly import Loaded

log = logging.getLogger('timebill_ros.worker')

SAVE_EVERY = 16  # requests; what they taught is also saved when the process ends
# Parameters that change how the tracker bounds lengths and times.
TRACKER_SETTINGS = ('pessimistic_length', 'miss_rate', 'pessimistic_factor', 'adaptation_step', 'track_timing')


class Worker:
    """Serves one node over one channel."""

    def __init__(self, channel: Channel, scratch: str = ''):
        self.channel = channel
        self._scratch = scratch
        self.commands: queue.SimpleQueue[dict] = queue.SimpleQueue()
        self.engine = None
        self._device_state = None
        self._loaded: Loaded | None = None
        self._unsaved = 0  # requests whose lessons are not on disk yet
        self._told_unsaved = False  # the log has said that they cannot be saved
        self._forgetting: Forgetting | None = None
        self.settings: dict = {}
        self._steering = Steering()
        self._empty_answers = EmptyAnswers()
        self._streamer = Streamer(channel)

    def read(self) -> None:
        """Take messages, in a thread of their own, until the pipe closes; then end the process.

        The node is gone then, and there is nobody to work for, whatever the main thread does. A worker that can read
        no more, because memory is short, ends too: the node starts another.
        """
        try:
            for message in self.channel.receive():
                if message['op'] == 'cancel':
                    if self._steering.cancel(message['id']):
                        self.commands.put({**message, 'op': 'resume'})  # the main thread waits for one
                elif message['op'] == 'pause':
                    self._steering.pause(message['id'])
                elif message['op'] == 'deadline':
                    self._steering.move_deadline(message['id'], message['deadline_s'])
                else:
                    self._steering.goals_read += message['op'] == 'run'  # a prompt that is read ahead stops
                    self.commands.put(message)
        except Exception:
            log.exception('messages of the node cannot be read any more')
            os._exit(1)
        self._save_state(ends=True)
        if self._scratch:  # the node removes it too, unless it was killed
            shutil.rmtree(self._scratch, ignore_errors=True)
        os._exit(0)

    def serve(self) -> None:
        """Serve one command after the other, in the main thread."""
        while True:
            self._serve_one()

    def _serve_one(self) -> None:
        operations = {'configure': self._configure, 'run': self._run, 'estimate': self._estimate, 'set': self._set,
                      'ping': self._pong, 'prepare': self._prepare,
                      'resume': lambda message: self._steering.resume(message['id'])}
        message = self.commands.get()
        operations[message['op']](message)

    def _configure(self, message: dict) -> None:
        try:
            settings = dict(message['settings'])
            named = cache_directory(settings['cache_dir'])
            kept_in = usable_cache(named)
            settings['cache_dir'] = str(kept_in)
            process_tuning.use_cores(settings['cpu_affinity'])
            process_tuning.be_nice(settings['worker_nice'])
            self._streamer.start()
            # PyTorch's compiler reads this when it is imported. It keeps results there that save seconds at the next
            # start. Its default is a folder for temporary files, which here is removed with the process.
            os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(steps_directory(str(kept_in)) / 'compiler'))
            self.settings = settings
            self._forgetting = Forgetting(named)
            with StartReport(self.channel.send, start_progress.this_start, settings['worker_start_timeout_s']):
                from timebill_ros.worker.cost_facts import cost_facts, pause_table
                from timebill_ros.worker.device_state import DeviceState
                loaded = self._load(anew=not message.get('restarts'))
            if kept_in != named:
                one_time_work.total_s = 0.0  # the next start finds none of it
            costs = cost_facts(loaded.engine)
            self._device_state = DeviceState(loaded.engine.model.device)
        except Exception as error:
            log.debug('configure failed', exc_info=True)
            self.channel.send({'event': 'failed', 'message': missing_library(error, message['settings']) or
                               loading_sentence(error)})
            return
        self.engine, self._loaded = loaded.engine, loaded
        gc.collect()
        gc.freeze()  # the model's objects stay; later collections need not walk them
        process_tuning.be_real_time(settings['realtime_priority'])
        self.channel.send({'event': 'ready', 'description': loaded.description,
                           'device': loaded.profile.identity.device,
                           'longest_pause_s': self._longest_pause_s(), 'one_time_s': one_time_work.total_s,
                           'sampling': self.engine.model.sampling, 'prefill': self.engine.prefill_table(),
                           'reuses': self.engine.model.prefixes is not None,
                           'pinned_characters': loaded.pinned_characters, 'pauses': pause_table(loaded.engine),
                           'tracked': self._tracked(), 'costs': costs,
                           'learned': self._learned(), **self._device()})
        if kept_in == named:
            hold_bound(named, settings['cache_limit_gib'])

    def _load(self, *, anew: bool) -> Loaded:
        """Load a model, or a script in its place; `anew`: not because another process was lost."""
        if self.settings['worker'] == 'scripted':
            from timebill_ros.worker import scripted
            return scripted.load_engine(self.settings, anew=anew)
        from timebill_ros.worker.loading import load_engine  # here, so that a missing torch is a sentence too
        take_transformers_along()
        return load_engine(self.settings, anew=anew)

    def _longest_pause_s(self) -> float:
        """Estimate the longest time for which the worker computes without a sign of life."""
        engine = self.engine
        return max(engine.longest_pause_s(), engine.times.eviction(engine.model.max_context))

    def _pong(self, message: dict) -> None:
        """Answer the node, which asks an idle worker whether it hangs. Only the thread that computes can answer.

        What requests taught goes with it, because it fades with time, and the state of the device.
        """
        self.channel.send({'event': 'pong', 'learned': self._learned() if self.engine is not None else {},
                           **self._device()})

    def _set(self, message: dict) -> None:
        before = {name: self.settings.get(name) for name in TRACKER_SETTINGS}
        self.settings.update(message['settings'])
        if self.engine is None:
            return  # loading failed, and the node has been told
        self.engine.lengths.wait_s = self.settings['prediction_wait_s']
        self.engine.replan_tokens = self.settings['replan_tokens']
        self.engine.drop_infeasible = self.settings['drop_infeasible']
        if any(self.settings[name] != value for name, value in before.items()):
            tracker = self._loaded.new_tracker(self.settings)
            tracker.take_over(self.engine.tracker)
            self.engine.tracker = tracker
            self._tell_learned()

    def _tracked(self) -> dict[str, float | bool]:
        """Return what diagnostics show of the tracker; `unusual`: the profile no longer describes this device."""
        tracker = self.engine.tracker
        return {'timing_factor': tracker.timing_factor, 'prefill_factor': tracker.prefill_factor,
                'time_bound': tracker.time_bound, 'unusual': is_unusual(tracker.timing_factor)}

    def _tell_learned(self) -> None:
        self.channel.send({'event': 'learned', 'learned': self._learned(), **self._device()})

    def _device(self) -> dict:
        """Return what a message tells of the device, see DeviceState.message; nothing before anything is loaded."""
        return self._device_state.message() if self._device_state is not None else {}

    def _learned(self) -> dict:
        """Return what the node estimates with besides costs."""
        from timebill_ros.worker.cost_facts import learned_facts
        try:
            return learned_facts(self.engine)
        except Exception:  # a bug; the answer that it goes with must not suffer
            log.exception('what requests taught could not be told')
            return {}

    def _forget(self) -> None:
        """Start from the profile again where a user has asked for that (planning/forgetting.py)."""
        if self.engine is None or self._forgetting is None or not self._forgetting.asked():
            return
        self.engine.tracker = self._loaded.new_tracker(self.settings)
        self.engine.lengths.forget()
        self._unsaved = 0
        log.info('what requests taught is forgotten, as asked')
        self._tell_learned()

    def _save_state(self, *, ends: bool = False) -> None:
        """Write down what requests taught; where the process `ends`, all of it."""
        self._forget()
        if self._loaded is None or self._loaded.state is None:
            return
        try:
            if self._unsaved:
                self.engine.tracker.save(self._loaded.state, self.engine.model.name)
                self._unsaved = 0
            self.engine.lengths.save(ends=ends)
        except (OSError, RuntimeError) as error:  # RuntimeError: a request that ends now changes it (only at the end)
            log.log(logging.DEBUG if self._told_unsaved else logging.WARNING,
                    'what requests taught could not be saved in cache_dir: %s', error)
            self._told_unsaved = True

    def _run(self, message: dict) -> None:
        self._steering.goals_begun += 1
        self._forget()
        outcome = self._outcome(message)
        self._unsaved += 1  # before the node hears of the end: it may close the pipe then, and the reader saves
        self._empty_answers.observe(outcome)
        if self._loaded is not None and self._loaded.profile_check is not None:
            self._loaded.profile_check.observe(self.engine.tracker)
        fatal = self._fatal() if outcome.error_code is ErrorCode.UNKNOWN else ''
        self.channel.send({'event': 'done', 'id': message['request']['request_id'], 'outcome': to_dict(outcome),
                           'finished_s': time.monotonic(), 'tracked': self._tracked(), 'fatal': fatal})
        self._settle()  # after the result, which must not wait for it
        self._tell_learned()
        self.engine.lengths.learn()
        if self.commands.empty() and self._steering.is_idle:
            self._tidy()
        if self._unsaved >= SAVE_EVERY and self._steering.is_idle:  # a goal that gave way is not to wait for a disk
            self._save_state()

    def _settle(self) -> None:
        try:
            self.engine.tracker.settle()
        except Exception:  # a bug; the answer is out, and the model need not be loaded again for it
            log.exception('what the goal showed of the level of promises was not found out')

    def _fatal(self) -> str:
        """Return why no request can succeed after an error; empty where the next one may.

        Some errors stay: after an illegal memory access every call of CUDA fails, until the process has ended.
        """
        try:
            self.engine.model.reset()
            self.engine.model.synchronize()
        except Exception as error:
            return f'{type(error).__name__}: {str(error)[:500]}'
        return ''

    def _tidy(self) -> None:
        """Use the time in which no goal waits: collect garbage, which the token loop does not, and check the cache."""
        gc.collect()
        try:
            self.engine.model.check()
        except Exception as error:  # a bug; the next request starts from an empty cache in any case
            log.error('the cache contradicts itself and is emptied: %s', error)
            with contextlib.suppress(Exception):
                self.engine.model.reset()
                self.engine.model.prefixes.clear()  # fails where there is none, which does no harm

    def _outcome(self, message: dict) -> Outcome:
        """Run a request. Return an outcome that the node can read, whatever goes wrong here."""
        name = message['request']['request_id']
        try:
            outcome = self._generate(Request.from_dict(message['request']))
        except Exception as error:  # a bug, or no memory: the goal still ends, and the worker and its model go on
            log.exception('request %s failed', name)
            if is_out_of_memory(error):
                return Outcome(ErrorCode.OUT_OF_MEMORY, goal_sentence(error), '', FinishReason.ERROR)
            return Outcome(ErrorCode.UNKNOWN, f'{type(error).__name__}: {error}', '', FinishReason.ERROR)
        try:
            outcome.timing.check()
        except ValueError as error:  # a bug too, but the answer is good without its account
            log.error('the account of request %s is dropped: %s', name, error)
            outcome = replace(outcome, timing=Timing())
        return outcome

    def _generate(self, request: Request) -> Outcome:
        control = control_of(request, self.channel, self._streamer, self._serve_one)
        with self._steering.running(request.request_id, control), \
                self._streamer.streaming(self.engine.model.tokenizer, request, control, self.engine.model.chat):
            return self.engine.run(request, control)

    def _estimate(self, message: dict) -> None:
        self._forget()
        self.channel.send(questions.estimate(self.engine, message))

    def _prepare(self, message: dict) -> None:
        self.channel.send(questions.prepare(self.engine, message, self._steering, self._streamer))


def main() -> None:
    """Serve the node at the other end of the socket `--fd`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--fd', type=int, required=True, help='inherited socket to the node')
    parser.add_argument('--scratch', default='', help='a folder for temporary files, removed at the end')
    parser.add_argument('--log-level', type=int, default=logging.INFO, help='of the module logging')
    arguments = parser.parse_args()
    process_tuning.be_ordinary()
    channel = Channel(socket.socket(fileno=arguments.fd))
    channel.send({'event': 'alive'})  # so that the node knows that this Python runs this file
    send_to_node(channel, arguments.log_level)
    wait_briefly()
    process_tuning.keep_freed_memory()
    os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
    os.environ.setdefault('HF_HUB_DISABLE_PROGRESS_BARS', '1')
    if arguments.scratch:
        os.environ['TMPDIR'] = arguments.scratch
    worker = Worker(channel, arguments.scratch)
    threading.Thread(target=worker.read, name='reader', daemon=True).start()
    worker.serve()


if __name__ == '__main__':
    main()
