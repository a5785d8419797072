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

"""Stand-ins for USD and physics: boxes on the x axis that move at their velocity and stop at one another."""
from __future__ import annotations

from isaacsim import kit


class Prim:
    """A box. Lengths are in metres; only the x axis moves."""

    def __init__(self, path: str, kind: str):
        self.path, self.kind, self.apis = path, kind, set()
        self.edge_m, self.scale, self.center_m = 2.0, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
        self.x_m = self.speed_m_s = 0.0

    @property
    def half_m(self) -> float:
        return self.edge_m * self.scale[0] / 2


class Stage:
    def __init__(self):
        self.prims: dict[str, Prim] = {}
        self.gravity = 9.81

    def define(self, path: str, kind: str) -> Prim:
        parent = path.rpartition('/')[0]
        if parent and parent not in self.prims:
            raise RuntimeError(f'{path} has no parent in the stage')
        return self.prims.setdefault(path, Prim(path, kind))


stage = Stage()


class Physics:
    """Simulates the rigid bodies; a stop puts them back. `ready`: it has made a step since the last stop."""

    ready = False

    def __call__(self, state: str, dt_s: float) -> None:
        bodies = [prim for prim in stage.prims.values() if 'RigidBody' in prim.apis]
        if state == 'stopped' or not self.ready:
            for body in bodies:
                body.x_m, body.speed_m_s = body.center_m[0], 0.0
        self.ready = state != 'stopped' and (self.ready or state == 'playing')
        if state != 'playing':
            return
        for body in bodies:
            if stage.gravity:
                raise RuntimeError('the cart falls')
            body.x_m += body.speed_m_s * dt_s
            for other in stage.prims.values():
                if other is not body and 'Collision' in other.apis & body.apis:
                    body.x_m = min(body.x_m, other.center_m[0] - other.half_m - body.half_m)


physics = Physics()


class _Schema:
    """A typed prim of the stage, as UsdGeom.Cube."""

    kind = ''

    def __init__(self, prim: Prim):
        self._prim = prim

    @classmethod
    def Define(cls, of, path):
        if of is not stage:
            raise RuntimeError('not the stage of the application')
        return cls(stage.define(path, cls.kind))

    def GetPrim(self):
        return self._prim


class Xform(_Schema):
    kind = 'Xform'


class Cube(_Schema):
    kind = 'Cube'

    def CreateSizeAttr(self, value):
        self._prim.edge_m = value

    def AddTranslateOp(self):
        return _Operation(self._prim, 'center_m', Vec3d)

    def AddScaleOp(self):
        return _Operation(self._prim, 'scale', Vec3f)


class _Operation:
    def __init__(self, prim: Prim, name: str, kind: type):
        self._prim, self._name, self._kind = prim, name, kind

    def Set(self, value):
        if type(value) is not self._kind:
            raise RuntimeError(f'{self._name} takes {self._kind.__name__}, not {value!r}')
        setattr(self._prim, self._name, value.values)


class Scene(_Schema):
    kind = 'PhysicsScene'

    def CreateGravityMagnitudeAttr(self, value):
        stage.gravity = value


class Vec3f:
    def __init__(self, x, y, z):
        self.values = float(x), float(y), float(z)


class Vec3d(Vec3f):
    pass


def _api(name: str):
    class Api:
        @staticmethod
        def Apply(prim):
            prim.apis.add(name)
    return Api


class _Array:
    """In the place of a warp array."""

    def __init__(self, rows):
        self._rows = rows

    def numpy(self):
        import numpy
        return numpy.array(self._rows, dtype=numpy.float32)


class RigidPrim:
    def __init__(self, paths, **_):
        if paths not in stage.prims:
            raise ValueError(f'no prim at {paths}')
        self._prim = stage.prims[paths]
        self._prim.apis.add('RigidBody')

    def get_world_poses(self, *, indices=None):
        prim = self._prim
        return _Array([[prim.x_m if physics.ready else prim.center_m[0], *prim.center_m[1:]]]), \
            _Array([[1.0, 0.0, 0.0, 0.0]])

    def set_velocities(self, linear_velocities=None, angular_velocities=None, *, indices=None):
        assert physics.ready, 'Physics tensor entity is not valid'
        ((self._prim.speed_m_s, *_),) = linear_velocities


def install() -> None:
    context = type('Context', (), {'get_stage': staticmethod(lambda: stage)})()
    kit.module('omni.usd', get_context=lambda: context)
    kit.module('pxr', UsdGeom=kit.module('pxr.UsdGeom', Xform=Xform, Cube=Cube),
               Gf=kit.module('pxr.Gf', Vec3d=Vec3d, Vec3f=Vec3f),
               UsdPhysics=kit.module('pxr.UsdPhysics', Scene=Scene, RigidBodyAPI=_api('RigidBody'),
                                     CollisionAPI=_api('Collision')))
    kit.extensions.on_enabled['isaacsim.core.experimental.prims'] = lambda: kit.module(
        'isaacsim.core.experimental.prims', RigidPrim=RigidPrim)
