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

"""Work spread over processes, none of which outlives an error, a crash or Ctrl-C."""
from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait

from timebill_ros.inference.model_directory import ModelError


def spread(work: Callable[..., Iterable], items: list, n_processes: int, *arguments) -> Iterator:
    """All that `work(share, *arguments)` yields in each of the processes, as it comes; a share is a list of items.

    `work` is a function of a module, because the processes are started anew and import it. Items and arguments should
    be small: a process starts only once the one before it has read its own. A ModelError of a process is raised here;
    any other end of it before its work is done is a ModelError too. Only from the main thread.
    """
    context = multiprocessing.get_context('spawn')
    running = {}
    try:
        # A terminal sends Ctrl-C to every process. Those that start here inherit that they ignore it.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for first in range(n_processes):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_send, args=(theirs, work, items[first::n_processes], arguments))
                process.start()
                running[ours] = process
                theirs.close()  # so that the pipe ends when the process does
        finally:
            signal.signal(signal.SIGINT, handler)
        while running:
            for pipe in wait(list(running)):
                try:
                    result = pipe.recv()
                except EOFError:
                    process = running.pop(pipe)
                    process.join()
                    if process.exitcode:
                        raise ModelError(f'a process has ended with code {process.exitcode}') from None
                    continue
                if isinstance(result, ModelError):
                    raise result
                yield result
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _send(pipe: Connection, work: Callable[..., Iterable], share: list, arguments: tuple) -> None:
    try:
        for result in work(share, *arguments):
            pipe.send(result)
    except ModelError as error:
        pipe.send(error)
    except BrokenPipeError:  # the process at the other end is gone
        pass
