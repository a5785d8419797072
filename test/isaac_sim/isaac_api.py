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

"""All that the cart's program takes from Isaac Sim and Kit: the one file to change for another release.

Written after the documentation and the published source of Isaac Sim 5.0 to 6.2, where every name below is public and
the same: SimulationApp, Kit's timeline, loop runner and extension manager, USD, OmniGraph's controller, the ROS 2
bridge's node types, and isaacsim.core.experimental.prims (isaacsim.core.api and its World are deprecated in 6.0). Not
run in Isaac Sim: test_isaac_sim.py runs it on a stand-in.

omni.isaac.* names of Isaac Sim 4.2 and before are not served.
"""
from __future__ import annotations

STEP_S = 1 / 60  # one update of the application; the physics scene's own default is one step as long
BRIDGE = 'isaacsim.ros2.bridge'
# core.nodes has the node that reads simulated time, experimental.prims the state of rigid bodies.
EXTENSIONS = ('isaacsim.core.nodes', 'isaacsim.core.experimental.prims', BRIDGE)
LONG_S = 1e6  # the timeline's end; by default it plays a few seconds over and over
REMEDY = ': source ROS 2, or set ROS_DISTRO, RMW_IMPLEMENTATION and LD_LIBRARY_PATH for the libraries that it brings'
GRAPH = '/World/Clock'
CART, WALL = '/World/Cart', '/World/Wall'


class BridgeError(RuntimeError):
    """Raised where an extension of Isaac Sim cannot be had."""


class Isaac:
    """Isaac Sim without a window. Build it before anything of omni or pxr is imported: SimulationApp loads these."""

    def __init__(self):
        from isaacsim import SimulationApp
        self._app = SimulationApp({'headless': True})
        import omni.kit.app
        import omni.timeline
        import omni.usd
        from omni.kit.loop import _loop
        manager = omni.kit.app.get_app().get_extension_manager()
        for name in EXTENSIONS:
            manager.set_extension_enabled_immediate(name, True)
        self._app.update()
        for name in EXTENSIONS:
            if not manager.is_extension_enabled(name):
                raise BridgeError(f'the extension {name} of Isaac Sim could not be enabled'
                                  f'{REMEDY if name == BRIDGE else ""}')
        self._stage = omni.usd.get_context().get_stage()
        # Each update moves simulated time by one step, however long it takes.
        loop = _loop.acquire_loop_interface()
        loop.set_manual_step_size(STEP_S)
        loop.set_manual_mode(True)
        self._timeline = omni.timeline.get_timeline_interface()
        self._timeline.set_time_codes_per_second(1 / STEP_S)
        self._timeline.set_end_time(LONG_S)
        self._timeline.set_looping(False)
        self._cart = None

    # -- the world -------------------------------------------------------------------------------------------------

    def build(self, wall_m: float) -> None:
        """Put a cart at 0 m and a wall at `wall_m` on the x axis. There is no gravity, as the cart is on a rail."""
        from isaacsim.core.experimental.prims import RigidPrim
        from pxr import UsdGeom, UsdPhysics
        UsdGeom.Xform.Define(self._stage, '/World')
        UsdPhysics.Scene.Define(self._stage, '/World/Physics').CreateGravityMagnitudeAttr(0.0)
        cart = self._box(CART, (0.6, 0.4, 0.4), (-0.3, 0.0, 0.3))
        UsdPhysics.RigidBodyAPI.Apply(cart)
        self._box(WALL, (0.2, 4.0, 2.0), (wall_m + 0.1, 0.0, 1.0))
        self._cart = RigidPrim(CART)

    def _box(self, path: str, size_m: tuple[float, float, float], center_m: tuple[float, float, float]):
        from pxr import Gf, UsdGeom, UsdPhysics
        cube = UsdGeom.Cube.Define(self._stage, path)
        cube.CreateSizeAttr(1.0)
        cube.AddTranslateOp().Set(Gf.Vec3d(*center_m))
        cube.AddScaleOp().Set(Gf.Vec3f(*size_m))  # by default translations are of doubles, and scales of floats
        UsdPhysics.CollisionAPI.Apply(cube.GetPrim())
        return cube.GetPrim()

    def publish_clock(self) -> None:
        """Have the bridge publish /clock at every frame that is played, and begin at 0 again after a stop."""
        import omni.graph.core as og
        keys = og.Controller.Keys
        og.Controller.edit({'graph_path': GRAPH, 'evaluator_name': 'execution'}, {
            keys.CREATE_NODES: [('Tick', 'omni.graph.action.OnPlaybackTick'),
                                ('Time', 'isaacsim.core.nodes.IsaacReadSimulationTime'),
                                ('Publish', f'{BRIDGE}.ROS2PublishClock')],
            keys.SET_VALUES: [('Time.inputs:resetOnStop', True), ('Publish.inputs:topicName', '/clock')],
            keys.CONNECT: [('Tick.outputs:tick', 'Publish.inputs:execIn'),
                           ('Time.outputs:simulationTime', 'Publish.inputs:timeStamp')]})

    # -- time ------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Compute one frame; simulated time moves by STEP_S where it is played."""
        self._app.update()

    def is_running(self) -> bool:
        return self._app.is_running()

    def is_playing(self) -> bool:
        return self._timeline.is_playing()

    def play(self) -> None:
        self._timeline.play()
        self.update()  # the timeline changes with an update, and the physics of a stopped world begins anew with it

    def pause(self) -> None:
        self._timeline.pause()
        self.update()

    def stop(self) -> None:
        """Put everything back where it was before the first play."""
        self._timeline.stop()
        self.update()

    def close(self) -> None:
        self._app.close()

    # -- the cart, while it is played ------------------------------------------------------------------------------

    def position_m(self) -> float:
        """Return where the front of the cart is."""
        positions, _ = self._cart.get_world_poses()
        return float(positions.numpy()[0][0]) + 0.3

    def drive(self, speed_m_s: float) -> None:
        self._cart.set_velocities(linear_velocities=[[speed_m_s, 0.0, 0.0]], angular_velocities=[[0.0, 0.0, 0.0]])
