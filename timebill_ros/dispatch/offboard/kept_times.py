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

"""The file that keeps over restarts what a server's answers taught. It is JSON, written whole or not at all.

    {"format": 1, "offboard": {"url": ..., "model": ...}, "times": {"points": [[...], ...], "ratios": [[...], ...],
     "per_token": [...], "lengths": [...], "whole": [...]}}

Each address and each model that is asked for there have a file of their own, in the folder of the other lessons
(planning/kept_state.py): `timebill forget` removes it, and has this node forget.
"""
from __future__ import annotations

import contextlib
import json
import logging
import threading

from timebill_ros.deadline import Clock
from timebill_ros.dispatch.offboard.served_times import ServedTimes
from timebill_ros.forgotten import STATES, Forgetting
from timebill_ros.resources import cache_directory, key_of, write_whole

log = logging.getLogger(__name__)

FORMAT = 1
MOST_BYTES = 1 << 18  # of a file; what is remembered is bounded, and takes a quarter of that
EVERY_S = 60.0  # it is written no more often, but once more when the node stops
END_S = 5.0  # the node's stop waits so long for a disk that takes its time


class KeptTimes:
    """Reads that file at the start, and writes it now and then; neither where `keep_state` of `settings` is not set."""

    def __init__(self, settings: dict, clock: Clock):
        self._of = {'url': settings['offboard_url'].rstrip('/'), 'model': settings['offboard_model']}
        cache = cache_directory(settings.get('cache_dir', ''))
        self._path = cache / STATES / f'offboard-{key_of(self._of.values())}.json'
        self._is_kept = bool(settings.get('keep_state'))
        self._forgetting, self._clock = Forgetting(cache), clock
        self._next_s = clock() + EVERY_S
        self._written = ''  # what the file holds, or is about to; empty: that is not known
        self._forgotten = 0  # how often a user has asked to forget
        self._writer: threading.Thread | None = None
        self._told = False

    def load(self) -> ServedTimes:
        """Return what was kept; of nothing, or of a file that cannot be used, fresh times. That one is set aside."""
        times = self._read() if self._is_kept else ServedTimes()
        self._written = self._text(times)
        return times

    def _read(self) -> ServedTimes:
        try:
            with self._path.open('rb') as file:
                data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise ValueError(f'it has more than {MOST_BYTES} bytes')
            state = json.loads(data)
            if (state['format'], state['offboard']) != (FORMAT, self._of):
                raise ValueError(f'it is of format {state["format"]!r} and of {state["offboard"]!r}')
            return ServedTimes.of(state['times'])
        except FileNotFoundError:
            return ServedTimes()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            aside, why = self._path.with_name(f'{self._path.name}.corrupt'), ''
            try:
                self._path.replace(aside)
            except OSError as problem:
                why = f', nor can it be set aside: {problem}'
            log.warning('what the server of offboard_url taught, in %s, cannot be used and is learned again (%s: %s)%s',
                        self._path, type(error).__name__, error, why or f'; set aside as {aside.name}')
            return ServedTimes()

    def is_to_forget(self) -> bool:
        """Return whether a user has asked to forget since this was asked last; what was learned is then not kept."""
        if not self._forgetting.asked():
            return False
        self._forgotten += 1
        self._remove(self._written)  # a write that was under way may have ended behind the removal
        self._written = self._text(ServedTimes())
        return True

    def _remove(self, text: str) -> None:
        """Remove the file where it holds `text`; another node may have written other lessons there."""
        with contextlib.suppress(OSError, ValueError):
            if self._path.read_text() == text:
                self._path.unlink()

    def save(self, times: ServedTimes, *, ends: bool = False) -> None:
        """Write down `times` where that is due, without waiting for the disk; where the node `ends`, at once."""
        if not self._is_kept or not (ends or self._clock() >= self._next_s):
            return
        if self._writer is not None:
            self._writer.join(END_S if ends else 0.0)
            if self._writer.is_alive():
                return
        self._next_s = self._clock() + EVERY_S
        text = self._text(times)
        if text == self._written:
            return
        self._written = text
        self._writer = threading.Thread(target=self._write, args=(text, self._forgotten),
                                        name='kept_times', daemon=True)
        self._writer.start()
        if ends:
            self._writer.join(END_S)

    def _text(self, times: ServedTimes) -> str:
        return json.dumps({'format': FORMAT, 'offboard': self._of, 'times': times.state()})

    def _write(self, text: str, forgotten: int) -> None:
        """Write `text`, which was learned after `forgotten` demands to forget."""
        try:
            write_whole(self._path, text)
        except OSError as error:
            self._written = ''  # so that it is tried again
            log.log(logging.DEBUG if self._told else logging.WARNING,
                    'what the server of offboard_url taught could not be saved in cache_dir: %s', error)
            self._told = True
        if forgotten != self._forgotten:
            self._remove(text)
