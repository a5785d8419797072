#!/usr/bin/env python3
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

"""Draw docs/rqt.png: the rqt plugin with the recorded goals of the demonstration, offscreen.

    python scripts/rqt_picture.py [OUT]

It takes a Python with PyQt5 and python_qt_binding (Debian: python3-python-qt-binding). ROS 2 is not needed: the
messages come from test/rqt/demo.json, which test/rqt/make_demo_recording.py makes.
"""
from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault('QT_QPA_PLATFORM', 'offscreen')
sys.path[:0] = [str(ROOT / 'test'), str(ROOT)]

from timebill_ros.codes import Phase  # noqa: E402

SIZE, ACCOUNT = (1600, 940), 360  # pixels


def busiest(messages) -> float:
    """Return the last instant of the recording at which stats came while one goal was decoded and another waited."""
    phases, found = {}, 0.0
    for topic, heard_s, message in messages:
        if topic == 'status' and message.request_id:
            phases[message.request_id] = message.phase
        elif {Phase.DECODE, Phase.QUEUED} <= set(phases.values()):
            found = heard_s
    return found


def main(out: str) -> None:
    """Show the window as it was then, and write it to `out`."""
    import status_recording
    from python_qt_binding.QtWidgets import QApplication

    from timebill_ros.rqt.widget import DeadlinesWidget
    messages = status_recording.read()
    application = QApplication(sys.argv[:1])
    replay = status_recording.Replay(messages, busiest(messages))
    window = DeadlinesWidget(replay.listen, lambda: ['/timebill'], '/timebill', replay.clock)
    window.resize(*SIZE)
    window.show()
    application.processEvents()
    window.look()
    replay.now += 0.4  # within a phase, and not at its first instant
    window.select(next(row.request_id for row in reversed(window.canvas.picture.rows) if row.is_missed))
    window.splitter.setSizes([SIZE[0] - ACCOUNT, ACCOUNT])
    application.processEvents()
    window.redraw()
    application.processEvents()
    window.grab().save(out)
    window.stop()
    print(out)


if __name__ == '__main__':
    main(*sys.argv[1:] or [str(ROOT / 'docs' / 'rqt.png')])
