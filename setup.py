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

"""Install into a virtual environment that holds the ros-* wheels. colcon never runs this file."""
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

NAME = 'timebill_ros'
HERE = pathlib.Path(__file__).resolve().parent

# ROS 2 as wheels. Not in install_requires: beside a sourced /opt/ros, libraries come from either at random.
ROS = [
    'ros-rclpy[fastrtps]==9.1.2',
    'ros-action-msgs==2.3.0',
    'ros-builtin-interfaces==2.3.0',
    'ros-diagnostic-msgs==5.5.1',
    'ros-lifecycle-msgs==2.3.0',
    'ros-rcl-interfaces==2.3.0',
    'ros-rosgraph-msgs==2.3.0',
    'ros-std-msgs==5.5.1',
    'ros-std-srvs==5.5.1',
]
# Inference, in the environment that worker_python names.
WORKER = ['torch', 'transformers>=4.56', 'huggingface_hub', 'safetensors', 'tokenizers', 'numpy', 'pyyaml']
# Pictures of what was measured.
PLOTS = ['matplotlib']
TEST = ['pytest', 'pytest-timeout', 'pytest-xdist', 'hypothesis', 'ruff']


class PlatformWheel(Distribution):
    """The wheel holds compiled type support, so it must be tagged for this Python."""

    def has_ext_modules(self):
        return True


class BuildWithInterfaces(build_py):
    """Run the ordinary CMakeLists.txt and put its install tree into the wheel."""

    def run(self):
        if self.editable_mode:
            raise SystemExit('An editable install generates no messages: use "pip install ." instead.')
        # setuptools only adds to build_lib: without this, a module that was deleted would stay installed.
        shutil.rmtree(pathlib.Path(self.build_lib) / NAME, ignore_errors=True)
        super().run()
        tmp = pathlib.Path(self.get_finalized_command('build').build_temp).resolve()
        stage = tmp / 'stage'
        shutil.rmtree(stage, ignore_errors=True)
        # Where the ros-* wheels live: the environment, or pip's isolated build environment.
        prefix = str(pathlib.Path(importlib.util.find_spec('rosidl_adapter').origin).parents[4])
        env = {**os.environ, 'AMENT_PREFIX_PATH': prefix, 'CMAKE_PREFIX_PATH': prefix,
               'PATH': os.path.join(prefix, 'bin') + os.pathsep + os.environ['PATH']}

        # Kept between builds, so that the interfaces compile again only where they changed. CMake's cache is
        # full of paths below the prefix, and pip's isolated environments vanish: a new prefix starts afresh.
        cmake_dir = tmp / 'cmake'
        built_for = cmake_dir / 'prefix.txt'
        if not (built_for.is_file() and built_for.read_text() == prefix):
            shutil.rmtree(cmake_dir, ignore_errors=True)
            cmake_dir.mkdir(parents=True)
            built_for.write_text(prefix)

        def cmake(*args):
            subprocess.run([shutil.which('cmake', path=env['PATH']), *args], check=True, env=env)

        cmake('-S', str(HERE), '-B', str(cmake_dir), '-G', 'Ninja',
              f'-DCMAKE_INSTALL_PREFIX={stage}', '-DCMAKE_BUILD_TYPE=Release',
              '-DBUILD_TESTING=OFF', f'-DPython3_EXECUTABLE={sys.executable}',
              f'-DCMAKE_PROJECT_TOP_LEVEL_INCLUDES={HERE / "cmake" / "pypi_wheels.cmake"}')
        cmake('--build', str(cmake_dir))
        cmake('--install', str(cmake_dir))

        site = next(stage.glob('lib/python3*/site-packages'))
        shutil.copytree(site / NAME, pathlib.Path(self.build_lib) / NAME, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns('__pycache__', '*.c'))
        shutil.rmtree(site)  # the rest (lib, share, include) lands under sys.prefix
        for folder, _, files in os.walk(stage):
            if files:
                self.distribution.data_files.append(
                    (os.path.relpath(folder, stage), [os.path.join(folder, file) for file in files]))


setup(
    name=NAME,
    version='0.1.0',
    description='Runs a large language model under hard deadlines, as a ROS 2 action server',
    license='Apache-2.0',
    maintainer='timebill_ros maintainers',
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, NAME + '.*']),
    data_files=[],
    install_requires=['numpy', 'pyyaml', 'rich'],
    extras_require={'ros': ROS, 'worker': WORKER, 'plots': PLOTS, 'datasets': ['datasets'],
                    'torchao': ['torchao>=0.12,<0.19'],  # int8 and int4 on CUDA; its interface changes between releases
                    # Reads GGUF files, such as the model of the demonstration: transformers takes accelerate for it.
                    'gguf': ['gguf==0.17.1', 'accelerate==1.15.0'],
                    'accelerate': ['accelerate==1.15.0'],  # transformers reads weights to a GPU with it
                    # What transformers runs quantised checkpoints with; the others' libraries were not tried.
                    'bitsandbytes': ['bitsandbytes==0.50.2', 'accelerate==1.15.0'],
                    'compressed-tensors': ['compressed-tensors==0.20.0'],
                    'fp8': ['accelerate==1.15.0', 'triton'],  # triton as the installed torch wants it
                    'structured': ['llguidance==1.9.1'],  # masks of the tokens that an answer of a form may have
                    # HTTP for `timebill serve`: routes, and the server whose one protocol is bounded there.
                    'server': ['starlette==1.10.0; python_version >= "3.11"',
                               'starlette==1.7.0; python_version < "3.11"', 'uvicorn==0.54.0'],
                    'offboard': ['httpx==0.28.1'],  # HTTP for the process that asks the server of offboard_url
                    'behaviours': ['py_trees==2.6.0'],  # behaviour trees, where they do not come from apt
                    'simulation': ['mujoco==3.3.7'],  # the simulator of test/simulation
                    'llamacpp': ['llama-cpp-python==0.3.36', 'gguf==0.17.1'], 'test': TEST},
    distclass=PlatformWheel,
    cmdclass={'build_py': BuildWithInterfaces},
    entry_points={'console_scripts': [
        'timebill_node = timebill_ros.node.main:main',
        'timebill = timebill_ros.cli.main:main',
    ]},
)
