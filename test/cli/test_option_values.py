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

"""What the command line takes and refuses, for options whose values have bounds."""
import argparse
from pathlib import Path

import pytest

from timebill_ros.cli.main import main
from timebill_ros.cli.option_values import number, out_file, whole


@pytest.mark.parametrize(('kind', 'text', 'value'), [
    (whole(0), '0', 0), (whole(1), '12', 12), (number(0), '0.5', 0.5), (number(0), '1e3', 1000.0)])
def test_a_value_within_the_bounds_is_taken(kind, text, value):
    assert kind(text) == value


@pytest.mark.parametrize(('kind', 'text', 'said'), [
    (whole(0, 65535), '65536', 'no whole number from 0 to 65535'),
    (number(0, 2 ** 31 - 1), '1e12', 'no number above 0 and at most 2147483647'),
    (whole(0), '-1', "'-1' is no whole number from 0 up"), (whole(1), '0', 'from 1 up'), (whole(1), '1.5', 'from 1 up'),
    (whole(1), 'many', "'many' is no whole"), (number(0), '0', "'0' is no number above 0"), (number(0), '-1', "'-1'"),
    (number(0), 'nan', "'nan'"), (number(0), 'inf', "'inf'"), (number(0), 'long', "'long'")])
def test_another_is_refused_with_its_bound(kind, text, said):
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        kind(text)


def test_a_file_may_lie_in_folders_that_are_made_below_one_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ('p.yaml', 'a/b/p.yaml', str(tmp_path / 'a' / 'p.yaml')):
        assert out_file(text) == Path(text)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    for text, said in (('/no-such-folder/a/p.yaml', 'lies in /no-such-folder/a, which does not exist'),
                       (str(tmp_path), 'is a directory'), (str(tmp_path / 'file' / 'p.yaml'), 'may make no file in')):
        with pytest.raises(argparse.ArgumentTypeError, match=said):
            out_file(text)


@pytest.mark.parametrize(('command', 'arguments', 'said'), [
    ('profile', ['--seconds', '-1'], "argument --seconds: '-1' is no number above 0"),
    ('profile', ['--repeats', '0'], "argument --repeats: '0' is no whole number from 1 up"),
    ('profile', ['--longest', '-5'], "argument --longest: '-5' is no whole number from 0 up"),
    ('profile', ['--out', '/no-such-folder/p.yaml'], 'argument --out: '),
    ('bench', ['miss-rate', '--prompts', '0'], "argument --prompts: '0' is no whole number from 1 up"),
    ('bench', ['miss-rate', '--replays', '0'], 'argument --replays: '),
    ('bench', ['knobs', '--prompts', '0'], 'argument --prompts: '),
    ('bench', ['device', '--out', '/no-such-folder/d.json'], 'argument --out: '),
    ('bench', ['quality', '--max-new-tokens', '-3'], 'argument --max-new-tokens: '),
    ('get-model', ['smollm2', '--cache-limit-gib', '-1'], 'argument --cache-limit-gib: '),
])
def test_a_command_refuses_at_once(command, arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, *arguments])
    assert ended.value.code == 2 and said in capsys.readouterr().err
