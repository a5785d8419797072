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

"""The options that choose tasks."""
import argparse
from pathlib import Path

import pytest

from timebill_ros.cli.task_options import add_task_options, task_source
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.tasks.text_tasks import Asking


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_task_options(parser)
    return task_source(parser.parse_args([str(argument) for argument in arguments]))


def test_without_options_the_tasks_are_those_of_the_embedded_model():
    assert parse() == TaskSource()


def test_what_is_asked_for_reaches_the_source(tmp_path):
    template = tmp_path / 'template.txt'
    template.write_text('{context}\n{input}\n')
    source = parse('--tasks', 'x.jsonl', '--limit', 5, '--template', template, '--metric', 'f1', '--max-new-tokens', 9)
    assert source == TaskSource(Path('x.jsonl'), 5, Asking('{context}\n{input}\n', 'f1', 9))


def test_what_cannot_be_is_a_sentence(tmp_path):
    (tmp_path / 'template.txt').write_text('hello')
    with pytest.raises(ValueError, match='hello'):
        parse('--template', tmp_path / 'template.txt')
    with pytest.raises(OSError):
        parse('--template', tmp_path / 'nowhere.txt')
    with pytest.raises(SystemExit):
        parse('--max-new-tokens', -3)
