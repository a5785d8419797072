"""Command-line options that choose a model, under the names of the node's parameters."""
from __future__ import annotations

import argparse

from timebill_ros import settings


def add_model_options(command: argparse.ArgumentParser, but: tuple[str, ...] = ()) -> None:
    """The node's parameters that choose model, device and cache, under the same names, without `but`."""
    for name in (name for name in settings.OF_MODELS if name not in but):
        parameter = settings.BY_NAME[name]
        command.add_argument('--' + name.replace('_', '-'), dest=name, type=type(parameter.default),
                             default=parameter.default, choices=parameter.choices or None,
                             help=parameter.description.replace('%', '%%'))


def model_settings(options: argparse.Namespace, but: tuple[str, ...] = ()) -> dict:
    """The node's parameters among the options, but for those that mean something else here."""
    return settings.check({name: value for name, value in vars(options).items()
                           if name in settings.BY_NAME and name not in but})
