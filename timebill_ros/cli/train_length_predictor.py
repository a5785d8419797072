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

"""`timebill train-length-predictor`: the training script has options of its own, and gets the command line as it is."""
from __future__ import annotations

import argparse

NAME = 'train-length-predictor'


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser(NAME, add_help=False,
                                  help='train a length predictor for a target model (-h after it for its options)')
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train with the arguments that follow the subcommand's name."""
    from timebill_ros.training.train_length_predictor import main as train
    train(options.rest)
    return 0
