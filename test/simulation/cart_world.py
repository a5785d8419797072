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

"""A cart on a rail that leads to a wall: what a simulator must offer for the scenario, whichever it is."""
from __future__ import annotations

from abc import ABC, abstractmethod

WALL_M = 30.0
TIMESTEP_S = 0.01


class CartWorld(ABC):
    """The cart begins at 0 m and stands; the wall is at WALL_M. Times are in simulated seconds."""

    @property
    @abstractmethod
    def time_s(self) -> float:
        """Simulated time since the start or the last reset."""

    @property
    @abstractmethod
    def position_m(self) -> float:
        """Where the front of the cart is."""

    @abstractmethod
    def drive(self, speed_m_s: float) -> None:
        """Have the cart's motor hold this speed from now on."""

    @abstractmethod
    def advance(self) -> None:
        """Compute one time step of TIMESTEP_S."""

    @abstractmethod
    def reset(self) -> None:
        """Begin again at time 0."""
