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

"""Work spread over processes. None of them outlives an error, a crash or Ctrl-C."""
from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait

from timebill_ros.inference.model_directory import ModelError


def spread(work: Callable[..., Iterable], items: list, n_processes: int, *arguments) -> Iterator:
    """Yield everything that `work(share, *arguments)` yields in each of `n_processes` processes, as it comes.

    Process i works on the share items[i::n_processes]. `work` must be a function of a module, because the processes
    are started anew and import it. Items and arguments should be small: a process starts only after the one before it
    has read its own. A ModelError raised in a process is raised here, and so is one for a process that ends in any
    other way before its work is done. Only the main thread may call this.
    """
    context = multiprocessing.get_context('spawn')
    running = {}
    try:
        # A terminal sends Ctrl-C to every process. While they start, this one ignores it, and they inherit that; only
        # this process then reacts, and ends them.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for first in range(n_processes):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_send, args=(theirs, work, items[first::n_processes], arguments))
                process.start()
                running[ours] = process
                theirs.close()  # the process has the only other copy, so the pipe ends when the process does
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
    """Run the work of one process and send what it yields, or its ModelError."""
    try:
        for result in work(share, *arguments):
            pipe.send(result)
    except ModelError as error:
        pipe.send(error)
    except BrokenPipeError:  # the process that reads is gone
        pass
