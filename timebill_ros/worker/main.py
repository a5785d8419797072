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

"""The inference process: `python -m timebill_ros.worker.main --fd N`, started by the node, ending with its pipe.

It imports torch and never rclpy. Three threads: the main one runs requests, one at a time; the reader takes messages,
so that a cancel reaches a running request; the streamer turns counted tokens into text and sends it, so that the node
holds the text so far whatever happens here.
"""
from __future__ import annotations

import argparse
import gc
import logging
import os
import queue
import shutil
import socket
import sys
import threading
import time

from timebill_ros.deadline import Deadline
from timebill_ros.dispatch.channel import Channel
from timebill_ros.inference.threads import wait_briefly
from timebill_ros.request import ErrorCode, GoalError, Outcome, Request, to_dict
from timebill_ros.resources import steps_directory
from timebill_ros.timing.drift import is_unusual
from timebill_ros.worker import process_tuning

log = logging.getLogger('timebill_ros.worker')

STREAM_PERIOD_S = 0.01
SAVE_EVERY = 16  # requests, and at the end
# Parameters that change how the tracker bounds lengths and times.
TRACKER_SETTINGS = ('pessimistic_length', 'miss_rate', 'pessimistic_factor', 'adaptation_step', 'track_timing')


class Worker:
    """Serves one node over one channel."""

    def __init__(self, channel: Channel, scratch: str = ''):
        self.channel = channel
        self._scratch = scratch
        self.commands: queue.SimpleQueue[dict] = queue.SimpleQueue()
        self.engine = None
        self.profile = None
        self._unsaved = 0  # requests whose lessons are not on disk yet
        self.settings: dict = {}
        self._lock = threading.Lock()
        self._running: tuple[str, object] | None = None  # request id and its Control
        self._canceled: set[str] = set()  # cancels that overtook their request
        self._moved = ('', 0.0)  # a deadline that did

    def read(self) -> None:
        """The reader thread. When the node is gone there is nobody to work for, whatever the main thread does."""
        for message in self.channel.receive():
            if message['op'] == 'cancel':
                self._cancel(message['id'])
            elif message['op'] == 'deadline':
                self._move_deadline(message['id'], message['deadline_s'])
            else:
                self.commands.put(message)
        self._save_state()
        if self._scratch:  # the node may have been killed, and nobody else would
            shutil.rmtree(self._scratch, ignore_errors=True)
        os._exit(0)

    def serve(self) -> None:
        """The main thread: one command after the other."""
        operations = {'configure': self._configure, 'run': self._run, 'estimate': self._estimate, 'set': self._set}
        while True:
            message = self.commands.get()
            operations[message['op']](message)

    def _configure(self, message: dict) -> None:
        # Imported here so that a missing torch is a sentence to the node, not an exit.
        try:
            settings = message['settings']
            process_tuning.use_cores(settings['cpu_affinity'])
            process_tuning.be_nice(settings['worker_nice'])
            # PyTorch's compiler keeps there what it finds out, for seconds at every start; it reads this when imported.
            # As it comes it is a folder for temporary files, which here goes with the process.
            os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(steps_directory(settings['cache_dir']) / 'compiler'))
            from timebill_ros.worker.loading import load_engine
            last = 0.0

            def progress(share: float) -> None:
                nonlocal last
                if time.monotonic() - last > 2.0:
                    last = time.monotonic()
                    self.channel.send({'event': 'profiling', 'share': share})

            self.settings = settings
            loaded = load_engine(self.settings, progress)
        except Exception as error:
            log.debug('configure failed', exc_info=True)
            self.channel.send({'event': 'failed', 'message': f'{type(error).__name__}: {error}'})
            return
        self.engine, self.profile = loaded.engine, loaded.profile
        gc.collect()
        gc.freeze()  # the model's objects stay; later collections need not walk them
        process_tuning.be_real_time(settings['realtime_priority'])
        self.channel.send({'event': 'ready', 'description': loaded.description,
                           'longest_pause_s': self.engine.longest_pause_s(), 'prefill': self.engine.prefill_table(),
                           'tracked': self._tracked()})

    def _set(self, message: dict) -> None:
        before = {name: self.settings.get(name) for name in TRACKER_SETTINGS}
        self.settings.update(message['settings'])
        if self.engine is None:
            return  # loading failed; the node knows
        self.engine.prediction_wait_s = self.settings['prediction_wait_s']
        self.engine.replan_tokens = self.settings['replan_tokens']
        self.engine.drop_infeasible = self.settings['drop_infeasible']
        if any(self.settings[name] != value for name, value in before.items()):
            from timebill_ros.worker.loading import make_tracker
            scores = self.engine.predictor.scores if self.engine.predictor else []
            tracker = make_tracker(self.settings, scores, self.profile)
            tracker.take_over(self.engine.tracker)
            self.engine.tracker = tracker

    def _tracked(self) -> dict[str, float | bool]:
        """Return what diagnostics show of the tracker; `unusual`: the profile no longer describes this device."""
        tracker = self.engine.tracker
        return {'timing_factor': tracker.timing_factor, 'prefill_factor': tracker.prefill_factor,
                'time_bound': tracker.time_bound, 'unusual': is_unusual(tracker.timing_factor)}

    def _save_state(self) -> None:
        if not self._unsaved or not self.settings.get('keep_state'):
            return
        from timebill_ros.worker.loading import state_path
        try:
            self.engine.tracker.save(state_path(self.settings, self.profile.identity,
                                                self.engine.prefill_chunk_tokens))
            self._unsaved = 0
        except (OSError, RuntimeError) as error:  # RuntimeError: it changed while it was written, at exit
            log.warning('what requests taught could not be saved: %s', error)

    def _cancel(self, request_id: str) -> None:
        with self._lock:
            if self._running is not None and self._running[0] == request_id:
                self._running[1].canceled = True
            else:
                self._canceled.add(request_id)

    def _move_deadline(self, request_id: str, deadline_s: float) -> None:
        """Simulated time goes on at another pace."""
        with self._lock:
            if self._running is not None and self._running[0] == request_id:
                self._running[1].deadline.at_s = deadline_s
            else:
                self._moved = (request_id, deadline_s)

    def _run(self, message: dict) -> None:
        from timebill_ros.inference.control import Control
        request = Request.from_dict(message['request'])
        name = request.request_id
        control = Control(Deadline(request.deadline_s), request.delivery_margin_s, request.max_overrun_s)
        control.on_phase = lambda phase: self.channel.send({'event': 'phase', 'id': name, 'phase': phase})
        control.on_plan = lambda plan, timing: self.channel.send(
            {'event': 'plan', 'id': name, 'plan': to_dict(plan), 'timing': to_dict(timing)})
        with self._lock:
            self._running = (name, control)
            control.canceled = name in self._canceled
            self._canceled.clear()
            if self._moved[0] == name:
                control.deadline.at_s = self._moved[1]
        streamer = _Streamer(self.channel, self.engine.model.tokenizer, request, control)
        outcome: Outcome = self.engine.run(request, control)
        streamer.close()
        with self._lock:
            self._running = None
        self.channel.send({'event': 'done', 'id': name, 'outcome': to_dict(outcome), 'finished_s': time.monotonic(),
                           'tracked': self._tracked()})
        if self.commands.empty():
            gc.collect()  # the token loop does not
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY:
            self._save_state()

    def _estimate(self, message: dict) -> None:
        answer = {'event': 'estimate', 'tag': message['tag']}
        try:
            plan, whole, n_x, prefill_s = self.engine.estimate(Request.from_dict(message['request']))
            answer.update(plan=to_dict(plan), whole=to_dict(whole), prompt_tokens=n_x, prefill_s=prefill_s)
        except GoalError as error:
            answer.update(error_code=error.code, error_msg=str(error))
        except Exception as error:
            log.exception('estimate failed')
            answer.update(error_code=ErrorCode.UNKNOWN, error_msg=f'{type(error).__name__}: {error}')
        self.channel.send(answer)


class _Streamer:
    """Sends the text of a running request every STREAM_PERIOD_S, from a thread of its own."""

    def __init__(self, channel: Channel, tokenizer, request: Request, control):
        from timebill_ros.inference.text import TextStream
        self._channel, self._request, self._control = channel, request, control
        self._stream = TextStream(tokenizer)
        # A stop string may turn out to have begun in what was already sent: hold back as much as it could cover.
        self._hold = max((len(s) for s in request.sampling.stop), default=1) - 1
        self._held = ''
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name='streamer', daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sent, revised, stop = 0, None, self._request.sampling.stop
        while not self._closed.wait(STREAM_PERIOD_S):
            if self._control.revised is not revised:
                revised = self._control.revised
                plan, timing = revised
                self._channel.send({'event': 'plan', 'id': self._request.request_id, 'plan': to_dict(plan),
                                    'timing': to_dict(timing)})
            n = self._control.n_tokens
            if n == sent:
                continue
            sent = n
            self._held += self._stream.advance(self._control.tokens, n)
            # A token is counted before the loop looks for stop strings in it, so one may be whole here.
            cut = min([len(self._held) - self._hold, *(self._held.find(s) for s in stop if s in self._held)])
            delta, self._held = self._held[:max(cut, 0)], self._held[max(cut, 0):]
            self._channel.send({'event': 'text', 'id': self._request.request_id, 'delta': delta, 'n': n})

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--fd', type=int, required=True, help='inherited socket to the node')
    parser.add_argument('--scratch', default='', help='a folder for temporary files, removed at the end')
    arguments = parser.parse_args()
    channel = Channel(socket.socket(fileno=arguments.fd))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format='[%(levelname)s] [timebill worker]: %(message)s')
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
