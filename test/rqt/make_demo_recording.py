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

"""Write demo.json: what the status and stats topics told while the demonstration's goals ran.

    python test/rqt/make_demo_recording.py [MODEL]      # smollm2, where "timebill get-model smollm2" was run

It takes an environment with ROS 2 and torch, as for `timebill demo`.
"""
import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]


def main(model: str) -> None:
    """Run the goals of the demonstration and record."""
    from status_recording import DEMO, Recorder

    from timebill_ros.cli import demo, demo_site_log, demo_text
    from timebill_ros.cli.isolation import isolate
    from timebill_ros.client import Client
    from timebill_ros.inference.named_models import EMBEDDED
    from timebill_ros.monitoring.subscription import subscribe
    isolate()
    node = subprocess.Popen([sys.executable, '-m', 'timebill_ros.node.main', '--ros-args', '-p', f'model:={model}',
                             '-p', 'autostart:=true', '-p', 'keep_state:=false'], start_new_session=True)
    recorder = Recorder()
    try:
        with Client() as client:
            client.wait_until_active(demo.START_TIMEOUT_S, alive=lambda: node.poll() is None)
            began = time.monotonic()
            subscribe(client.node, '/timebill', lambda m: recorder.take('status', time.monotonic() - began, m),
                      lambda m: recorder.take('stats', time.monotonic() - began, m))
            (demo_site_log if model == EMBEDDED else demo_text).send_goals(client)
            time.sleep(1.0)
    finally:
        demo.stop(node)
    lines = ',\n'.join(json.dumps(row, separators=(',', ':'), allow_nan=False) for row in recorder.rows)
    DEMO.write_text(f'{{"about": "timebill demo --model {model}", "messages": [\n{lines}\n]}}\n')
    print(f'{len(recorder.rows)} messages in {DEMO}')


if __name__ == '__main__':
    main(*sys.argv[1:] or ['smollm2'])
