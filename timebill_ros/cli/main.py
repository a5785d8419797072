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

from timebill_ros.cli import ask, bench, cache, demo, forget, get_model, monitor, profile, serve, train_length_predictor
from timebill_ros.cli.termination import CODE, Terminated, termination_as_interrupt
from timebill_ros.inference.threads import wait_briefly
from timebill_ros.resources import version
from timebill_ros.worker import process_tuning

# Each has `add(commands)`: see the docstring of this package.
SUBCOMMANDS = (ask, monitor, serve, profile, get_model, cache, forget, bench, train_length_predictor, demo)
ROS_LIBRARIES = ('rclpy', 'rcl_interfaces', 'lifecycle_msgs', 'builtin_interfaces', 'diagnostic_msgs', 'std_msgs',
                 'action_msgs', 'rosidl_parser', 'rosgraph_msgs')


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with every subcommand."""
    top = argparse.ArgumentParser(prog='timebill', description='LLM answers on a deadline.')
    top.add_argument('--version', action=ShowVersion, nargs=0, help='say which version this is, and exit')
    commands = top.add_subparsers(dest='command', required=True)
    for subcommand in SUBCOMMANDS:
        subcommand.add(commands)
    _show_defaults(top)
    return top


class ShowVersion(argparse.Action):
    """`--version`, looked up only when it is asked for."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(f'timebill_ros {version()}')
        parser.exit()


def _show_defaults(parser: argparse.ArgumentParser) -> None:
    """Have the help of every option say its default, unless it says one already or has none worth saying."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _show_defaults(command)
        elif action.option_strings and action.nargs != 0 and action.default not in (None, '', argparse.SUPPRESS) \
                and 'default' not in (action.help or ''):
            action.help = f'{action.help} (default: %(default)s)' if action.help else 'default: %(default)s'


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status; an error that a user can act on is a sentence and status 1."""
    wait_briefly()  # as in the worker, so that what is measured here holds there
    process_tuning.keep_freed_memory()
    options = parser().parse_args(arguments)
    expected: tuple[type[BaseException], ...] = ()
    try:
        expected = _expected_errors(options)
        with termination_as_interrupt():
            return options.run(options)
    except ModuleNotFoundError as error:
        print(f'timebill {options.command}: {missing(error)}', file=sys.stderr)
        return 1
    except expected as error:
        print(f'timebill {options.command}: {error}', file=sys.stderr)
        return 1
    except Terminated:
        return CODE
    except KeyboardInterrupt:
        return 130


def missing(error: ModuleNotFoundError) -> str:
    """Return a sentence on the library that is missing and where it is to be had. Raise what is a fault of ours."""
    library, _, part = (error.name or '').partition('.')
    here = f'{sys.executable} has no {error.name}'
    if library == 'timebill_ros' and part.split('.')[0] in ('action', 'msg', 'srv'):
        return f'{here}: the package is not built, or its workspace is not sourced (install/setup.bash)'
    if library in ROS_LIBRARIES:
        return f'{here}: source the ROS 2 installation and the workspace first, or run .venv/bin/timebill of a checkout'
    if not library or library == 'timebill_ros':
        raise error
    if library in ('starlette', 'uvicorn', 'h11'):
        return f'{here}: pip install starlette uvicorn, the extra "server" of this package'
    return f'{here}: run this with the Python that has it, the one that worker_python names: ' \
           f'"<that python> -m timebill_ros.cli ...", or install {library} there'


def _expected_errors(options: argparse.Namespace) -> tuple[type[BaseException], ...]:
    """Return the errors whose sentence is enough for a user.

    Some of their classes are in modules that import torch or rclpy, so each is imported only where it can be raised.
    """
    expected: tuple[type[BaseException], ...] = (ValueError, OSError)
    if getattr(options, 'talks', False):
        from rclpy._rclpy_pybind11 import RCLError  # as of a security directory that is not there; no public name

        from timebill_ros.client import ServerUnavailable
        expected += (ServerUnavailable, RCLError)
    elif options.command in ('profile', 'bench', 'get-model', train_length_predictor.NAME):
        from timebill_ros.inference.model_directory import ModelError
        expected += (ModelError,)
    return expected
