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

"""The `timebill` command: its parser, the choice of the subcommand, and what becomes of errors."""
from __future__ import annotations

import argparse
import sys

from timebill_ros.cli import ask, bench, demo, monitor, profile, train_length_predictor
from timebill_ros.inference.threads import wait_briefly
from timebill_ros.worker import process_tuning

# Each has `add(commands)`: see the docstring of this package.
SUBCOMMANDS = (ask, monitor, profile, bench, train_length_predictor, demo)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with every subcommand."""
    top = argparse.ArgumentParser(prog='timebill', description='LLM answers on a deadline.')
    commands = top.add_subparsers(dest='command', required=True)
    for subcommand in SUBCOMMANDS:
        subcommand.add(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status; an error that a user can act on is a sentence and status 1."""
    wait_briefly()  # as in the worker, so that what is measured here holds there
    process_tuning.keep_freed_memory()
    options, rest = parser().parse_known_args(arguments)
    if rest and options.command != train_length_predictor.NAME:
        parser().error(f'unrecognized arguments: {" ".join(rest)}')
    options.rest = rest
    expected = _expected_errors(options)
    try:
        return options.run(options)
    except expected as error:
        print(f'timebill {options.command}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _expected_errors(options: argparse.Namespace) -> tuple[type[BaseException], ...]:
    """Return the errors whose sentence is enough for a user.

    Some of their classes are in modules that import torch or rclpy, so each is imported only where it can be raised.
    """
    expected: tuple[type[BaseException], ...] = (ValueError, OSError)
    if getattr(options, 'talks', False):
        from timebill_ros.client import ServerUnavailable
        expected += (ServerUnavailable,)
    elif options.command in ('profile', 'bench'):
        from timebill_ros.inference.model_directory import ModelError
        expected += (ModelError,)
    return expected
