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

"""The package as it is built and installed, with pip and with colcon."""
import ast
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAME = 'timebill_ros'

# Import name -> rosdep key, where they differ.
ROSDEP_KEYS = {'numpy': 'python3-numpy', 'rich': 'python3-rich', 'yaml': 'python3-yaml'}
# They come by pip into worker_python's environment.
FROM_PIP = {'huggingface_hub', 'safetensors', 'tokenizers', 'torch', 'transformers', 'datasets', 'torchao', 'kvpress',
            'llama_cpp', 'gguf', 'llguidance'}
# For trees that ask; the extra is `behaviours`. A rosdep key would put it on every robot.
FOR_TREES = {'py_trees'}
# Draws what was measured; a node and its clients run without it. The extra is `plots`.
FOR_PLOTS = {'matplotlib'}
# Serves HTTP; the extra is `server`.
FOR_THE_DOOR = {'starlette', 'uvicorn'}
# Asks a server over HTTP; the extra is `offboard`.
FOR_OFFBOARD = {'httpx'}
# Judges what `timebill bench structured` was answered, which says so where it is missing
FOR_JUDGING = {'jsonschema'}
FOR_RQT = {'python_qt_binding', 'rqt_gui_py'}


@pytest.fixture(scope='module')
def manifest():
    package = pytest.importorskip('catkin_pkg.package')
    return package.parse_package_string((ROOT / 'package.xml').read_text())


def test_package_xml_is_valid(manifest):
    warnings = []
    manifest.validate(warnings=warnings)
    assert warnings == []
    assert (manifest.name, manifest.licenses) == (NAME, ['Apache-2.0'])
    assert manifest.get_build_type() == 'ament_cmake'
    # Without it, rosidl and downstream packages do not know that there are interfaces here.
    assert [group.name for group in manifest.member_of_groups] == ['rosidl_interface_packages']


def test_one_version(manifest):
    setup_version = re.search(r"version='([^']+)'", (ROOT / 'setup.py').read_text())[1]
    assert manifest.version == setup_version


def imported_packages():
    for path in [*(ROOT / NAME).rglob('*.py'), *(ROOT / 'launch').rglob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            yield from ((path.relative_to(ROOT), name.split('.')[0]) for name in names)


def test_every_import_is_declared(manifest):
    declared = {dependency.name for dependency in manifest.exec_depends}
    undeclared = {(str(path), name) for path, name in imported_packages()
                  if name not in sys.stdlib_module_names | FROM_PIP | FOR_PLOTS | FOR_TREES | FOR_RQT | FOR_THE_DOOR
                  | FOR_OFFBOARD | FOR_JUDGING
                  | {NAME} and ROSDEP_KEYS.get(name, name) not in declared}
    assert not undeclared


def test_only_plots_need_matplotlib():
    users = {path.parts[1] for path, name in imported_packages() if name in FOR_PLOTS}
    assert users == {'bench'}
    assert "'plots': PLOTS" in (ROOT / 'setup.py').read_text()
    assert all(f'{name}==' in (ROOT / 'requirements.txt').read_text() for name in FOR_PLOTS)


def test_only_behaviours_need_py_trees():
    assert {str(path) for path, name in imported_packages() if name in FOR_TREES} == {f'{NAME}/behaviours.py'}
    pin = re.search(r'py_trees==[\d.]+', (ROOT / 'setup.py').read_text())[0]
    assert pin in (ROOT / 'requirements-test.txt').read_text().splitlines()


def test_only_the_door_needs_a_server():
    assert {path.parts[1] for path, name in imported_packages() if name in FOR_THE_DOOR} == {'door'}
    pins = re.findall(r"'((?:starlette|uvicorn)==[^']+)'", (ROOT / 'setup.py').read_text())
    assert len(pins) == 3
    for pin in pins:
        assert pin in (ROOT / 'requirements.txt').read_text().splitlines()


def test_only_the_process_that_asks_a_server_needs_an_http_client():
    assert {str(path) for path, name in imported_packages() if name in FOR_OFFBOARD} == {
        f'{NAME}/dispatch/offboard/call.py'}
    pin = re.search(r'httpx==[\d.]+', (ROOT / 'setup.py').read_text())[0]
    assert pin in (ROOT / 'requirements.txt').read_text().splitlines()


def test_the_simulator_of_the_tests_is_an_extra():
    pin = re.search(r'mujoco==[\d.]+', (ROOT / 'setup.py').read_text())[0]
    assert pin in (ROOT / 'requirements-test.txt').read_text().splitlines()
    assert f'pip install {pin}`' in (ROOT / 'docs' / 'simulation.md').read_text()


def test_only_the_rqt_plugin_needs_qt(manifest):
    assert {path.parts[1] for path, name in imported_packages() if name in FOR_RQT} == {'rqt'}
    declared = {dependency.name for dependency in manifest.exec_depends + manifest.build_depends}
    assert not declared & {*FOR_RQT, 'rqt_gui', 'python3-pyqt5'}  # a robot without a screen gets none


def test_the_wheels_are_pinned_alike_everywhere():
    def pins(file):
        return dict(re.findall(r'\b(ros-[\w-]+(?:\[\w+\])?)==([\d.]+)', (ROOT / file).read_text()))

    required = pins('requirements.txt')
    for file in ('setup.py', 'pyproject.toml'):
        assert pins(file) and pins(file).items() <= required.items(), file


def installed_share():
    """share/timebill_ros of the prefix that the generated interfaces come from."""
    spec = importlib.util.find_spec(f'{NAME}.action')
    if spec is None:
        pytest.skip('the package is not installed')
    for prefix in pathlib.Path(spec.origin).parents:
        if (prefix / 'share' / NAME / 'package.xml').is_file():
            return prefix / 'share' / NAME
    pytest.fail(f'no share/{NAME} in any folder above {spec.origin}')


def files_below(folder):
    return {path.relative_to(folder) for path in folder.rglob('*')
            if path.is_file() and '__pycache__' not in path.parts}


@pytest.mark.parametrize('folder', ['launch', 'config', 'examples', 'msg', 'action', 'srv', 'resource/demo'])
def test_what_is_installed_is_what_is_here(folder):
    here = files_below(ROOT / folder)
    assert here, f'{folder} is missing'
    assert here <= files_below(installed_share() / pathlib.PurePath(folder).name)


def test_launch_finds_the_package_and_its_programs():
    share = installed_share()
    prefix = share.parents[1]
    assert (prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / NAME).is_file()
    for program in ('timebill', 'timebill_node'):
        assert os.access(prefix / 'lib' / NAME / program, os.X_OK), program


def test_pip_installs_both_commands():
    try:
        distribution = importlib.metadata.distribution(NAME)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip('not installed with pip')
    commands = {entry.name: entry.value for entry in distribution.entry_points if entry.group == 'console_scripts'}
    assert commands == {'timebill': 'timebill_ros.cli.main:main', 'timebill_node': 'timebill_ros.node.main:main'}


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A colcon workspace with a copy of this package, built on top of the running environment."""
    colcon = shutil.which('colcon', path=os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH'])
    if colcon is None:
        pytest.skip('colcon is not installed')
    root = tmp_path_factory.mktemp('workspace')
    shutil.copytree(ROOT, root / 'src' / NAME, ignore=shutil.ignore_patterns(
        '.*', '__pycache__', '*.egg-info', 'build', 'install', 'log'))
    env = dict(os.environ)
    arguments = ['-DBUILD_TESTING=OFF', f'-DPython3_EXECUTABLE={sys.executable}']
    if importlib.util.find_spec('ros_wheels_bootstrapper'):
        # The wheels need what a sourced setup.bash does elsewhere, and CMake from the same environment.
        env.update(AMENT_PREFIX_PATH=sys.prefix, CMAKE_PREFIX_PATH=sys.prefix,
                   PATH=os.path.join(sys.prefix, 'bin') + os.pathsep + os.environ['PATH'])
        wheels = root / 'src' / NAME / 'cmake' / 'pypi_wheels.cmake'
        arguments.append(f'-DCMAKE_PROJECT_TOP_LEVEL_INCLUDES={wheels}')
    if shutil.which('ninja', path=env['PATH']):
        arguments += ['-G', 'Ninja']
    env.pop('MAKEFLAGS', None)  # set where make runs the tests; its job server is not ours to use
    build = subprocess.run([colcon, 'build', '--cmake-args', *arguments], cwd=root, env=env, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert build.returncode == 0, build.stdout
    return root


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_colcon_builds_a_package_that_works(workspace):
    prefix = workspace / 'install' / NAME
    script = ('import timebill_ros.action, timebill_ros.msg, timebill_ros.srv\n'
              'from rclpy.type_support import check_for_type_support\n'
              'check_for_type_support(timebill_ros.action.Generate)\n'
              'print(timebill_ros.__file__)\n'
              'print(timebill_ros.action.__file__)\n'
              'print(timebill_ros.action.Generate.Goal().max_eviction_ratio)')
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(['bash', '-c', 'source install/setup.bash && exec "$0" -c "$1"', sys.executable, script],
                          cwd=workspace, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    package, action, ratio = done.stdout.splitlines()
    # Both from the install space: the source's own __init__.py must not hide the generated part.
    assert pathlib.Path(package).is_relative_to(prefix) and pathlib.Path(action).is_relative_to(prefix)
    assert float(ratio) == -1.0


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_colcon_installs_what_launch_and_run_look_for(workspace):
    prefix = workspace / 'install' / NAME
    assert (prefix / 'share' / NAME / 'launch' / 'timebill.launch.py').is_file()
    assert (prefix / 'share' / NAME / 'config' / 'timebill.yaml').is_file()
    assert (prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / NAME).is_file()
    for program in ('timebill', 'timebill_node'):
        assert os.access(prefix / 'lib' / NAME / program, os.X_OK), program
