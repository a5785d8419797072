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

"""Sends to /rosout what the parts without ROS log."""
from __future__ import annotations

import logging


def bridge(logger) -> None:
    """Hand what the package logs, here and in the worker, to rclpy's `logger` from now on, from its level on.

    The numbers of levels are the same in ROS and in Python.
    """
    class Bridge(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = self.format(record)
            # One call for each severity: rclpy refuses a call site whose severity changes.
            if record.levelno >= logging.CRITICAL:
                logger.fatal(text)
            elif record.levelno >= logging.ERROR:
                logger.error(text)
            elif record.levelno >= logging.WARNING:
                logger.warning(text)
            elif record.levelno >= logging.INFO:
                logger.info(text)
            else:
                logger.debug(text)

    root = logging.getLogger('timebill_ros')
    root.handlers = [Bridge()]
    root.setLevel(int(logger.get_effective_level()))
    root.propagate = False
