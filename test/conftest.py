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

"""Keeps a test run apart from the ROS graph, the caches and the logs of the machine that it runs on.

The environment is set when this file is imported, before any test imports rclpy. Processes that tests start inherit it.
"""
import atexit
import os
import shutil
import tempfile

import pytest

_home = tempfile.mkdtemp(prefix='timebill_test_')
atexit.register(shutil.rmtree, _home, ignore_errors=True)

os.environ['HOME'] = _home
os.environ['XDG_CACHE_HOME'] = os.path.join(_home, '.cache')
os.environ['ROS_LOG_DIR'] = os.path.join(_home, 'ros_log')
os.environ['HF_HUB_OFFLINE'] = '1'

# One domain per run, so that two runs on a machine do not hear each other. At most 101, because the ports of higher
# domains overlap with those that the kernel hands out.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
if os.environ.get('ROS_DISTRO') == 'humble':  # it knows only this older name, which newer distributions warn about
    os.environ['ROS_LOCALHOST_ONLY'] = '1'


@pytest.fixture(scope='session')
def trained():
    """The directory of a tiny site-log target and the losses of its training, see tiny_training.py."""
    import tiny_training  # here, so that tests without this fixture do not import torch
    return tiny_training.trained()


@pytest.fixture(scope='session')
def tokenizer():
    """The embedded model's tokenizer: one token per word of the site-log language."""
    from timebill_ros.training.word_tokenizer import build_tokenizer
    return build_tokenizer(512)
