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

"""Bond as bondpy 4.1 has it, as far as a node that is managed uses it; its messages are strings.

"alive ID" is a heartbeat and "dead ID" the end, which is repeated until the manager has heard it. A manager answers
"manager alive ID" and "manager dead ID". As in bondpy, a publisher is destroyed right after its last message.
"""
import threading

from std_msgs.msg import String


class Bond:
    def __init__(self, node, topic, bond_id, on_broken=None, on_formed=None):
        self.node, self.topic, self.id = node, topic, bond_id
        self.on_broken, self.on_formed = on_broken, on_formed
        self.heartbeat_period, self.heartbeat_timeout, self.connect_timeout = 1.0, 4.0, 10.0
        self.disconnect_timer = threading.Timer(2.0, lambda: None)
        self._state, self._condition = 'waiting', threading.Condition()
        self.pub = node.create_publisher(String, topic, 1)

    def start(self):
        self._connect = threading.Timer(self.connect_timeout, self._break)
        self._connect.daemon = True
        self._connect.start()
        self.sub = self.node.create_subscription(String, self.topic, self._on_status, 1)
        self.thread = threading.Thread(target=self._publishing, daemon=True)
        self.thread.start()

    def break_bond(self):
        with self._condition:
            if self._state != 'formed':
                self._state = 'dead'
            else:
                self._state = 'dying'
            self.pub.publish(String(data=f'dead {self.id}'))
            self._condition.notify_all()

    def wait_until_broken(self, timeout):
        with self._condition:
            return self._condition.wait_for(lambda: self._state == 'dead', timeout.nanoseconds * 1e-9)

    def shutdown(self):
        self.sub.destroy()
        with self._condition:
            self._state = 'dead'
            self.pub.destroy()
            self._condition.notify_all()
        self._connect.cancel()
        self.on_broken()

    def _on_status(self, message):
        if message.data == f'manager alive {self.id}' and self._state == 'waiting':
            self._connect.cancel()
            self._state = 'formed'
            self.on_formed()
        elif message.data == f'manager dead {self.id}':
            self._break()

    def _break(self):
        with self._condition:
            self._state = 'dead'
            self._condition.notify_all()
        self.on_broken()

    def _publishing(self):
        with self._condition:
            while self._state != 'dead':
                dying = self._state == 'dying'
                self.pub.publish(String(data=f'{"dead" if dying else "alive"} {self.id}'))
                self._condition.wait(0.05 if dying else self.heartbeat_period)
