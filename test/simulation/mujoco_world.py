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

"""The cart in MuJoCo."""
from __future__ import annotations

import mujoco
from cart_world import TIMESTEP_S, WALL_M, CartWorld

_MODEL = f"""
<mujoco>
  <option timestep="{TIMESTEP_S}"/>
  <worldbody>
    <geom type="plane" size="50 5 0.1"/>
    <body name="cart" pos="0 0 0.3">
      <joint name="rail" type="slide" axis="1 0 0"/>
      <geom type="box" size="0.3 0.2 0.2" pos="-0.3 0 0" mass="5"/>
    </body>
    <geom name="wall" type="box" size="0.1 2 1" pos="{WALL_M + 0.1} 0 1"/>
  </worldbody>
  <actuator><velocity joint="rail" kv="50" ctrlrange="-5 5"/></actuator>
</mujoco>
"""


class MuJoCoWorld(CartWorld):
    def __init__(self):
        self._model = mujoco.MjModel.from_xml_string(_MODEL)
        self._data = mujoco.MjData(self._model)

    @property
    def time_s(self) -> float:
        return self._data.time

    @property
    def position_m(self) -> float:
        return float(self._data.qpos[0])

    def drive(self, speed_m_s: float) -> None:
        self._data.ctrl[0] = speed_m_s

    def advance(self) -> None:
        mujoco.mj_step(self._model, self._data)

    def reset(self) -> None:
        mujoco.mj_resetData(self._model, self._data)
