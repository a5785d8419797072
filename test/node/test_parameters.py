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

"""Parameters of a running node: values that are refused, what may change when, and unknown names."""
from __future__ import annotations

import math
import time

import pytest
import rclpy
from builtin_interfaces.msg import Time
from node_client import SUCCEEDED, make_goal
from node_process import scripted
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.context import Context
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from timebill_ros.node import parameters
from timebill_ros.settings import PARAMETERS, check

LIVE = [parameter for parameter in PARAMETERS if parameter.live]
FIXED = [parameter for parameter in PARAMETERS if not parameter.live]


@pytest.fixture(scope='module')
def node(tmp_path_factory):
    given = ['-p', 'modle:=x', '-p', 'use_sim_time:=false']
    folder = tmp_path_factory.mktemp('script')
    with scripted(folder, queue_sise=3, whatever_it_is=1.5, arguments=given) as node:
        for kind, name in ((GetParameters, 'get_parameters'), (SetParametersAtomically, 'set_parameters_atomically')):
            node._services[kind] = node._node.create_client(kind, f'{node.server}/{name}')
        yield node.start()


def by_name(parameter):
    return parameter.name


def get(node, name):
    value = node.call(GetParameters, names=[name]).values[0]
    return Parameter.from_parameter_msg(ParameterMessage(name=name, value=value)).value


def other_value(parameter):
    if parameter.choices:
        return next(choice for choice in parameter.choices if choice != parameter.default)
    kind = type(parameter.default)
    if kind is bool:
        return not parameter.default
    if parameter.is_json:
        return '{"a": 1}'
    if kind is str:
        return '/elsewhere'
    return kind(parameter.high if parameter.default == parameter.low else parameter.low)


def bad_values(parameter):
    kind = type(parameter.default)
    values = ['text'] if kind is not str else [True]
    if parameter.choices:
        values.append('nonsense')
    if kind is float:
        values += [math.nan, math.inf, parameter.high * 2 + 1]
    if kind is int:
        values += [int(parameter.low) - 1, int(parameter.high) + 1]
    return values


def test_names_that_are_none_are_told_with_the_nearest_that_is_one(node):
    assert "unknown parameter 'queue_sise' is ignored; did you mean 'queue_size'?" in node.log
    assert "unknown parameter 'modle' is ignored; did you mean 'model'?" in node.log
    assert "unknown parameter 'whatever_it_is' is ignored" in node.log
    assert node.log.count('unknown parameter') == 3, 'what rclpy itself knows is none of them'
    assert get(node, 'queue_size') == 32


@pytest.mark.parametrize('parameter', PARAMETERS, ids=by_name)
def test_what_is_out_of_bounds_is_refused_and_changes_nothing(node, parameter):
    before = get(node, parameter.name)
    for value in bad_values(parameter):
        result = node.set_parameter(parameter.name, value)
        assert not result.successful, (parameter.name, value)
        if result.reason.startswith('Wrong parameter type'):
            assert type(value) is not type(parameter.default), 'rclpy says so before anybody of ours is asked'
        else:
            assert parameter.name in result.reason and str(value) in result.reason
    assert get(node, parameter.name) == before


@pytest.mark.parametrize('parameter', LIVE, ids=by_name)
def test_live_parameters_change_while_the_node_is_active(node, parameter):
    before = get(node, parameter.name)
    value = other_value(parameter)
    assert node.set_parameter(parameter.name, value).successful
    assert get(node, parameter.name) == value
    assert node.set_parameter(parameter.name, before).successful
    assert node.state() == 'active'


@pytest.mark.parametrize('parameter', FIXED, ids=by_name)
def test_the_others_need_a_clean_up_first_and_say_so(node, parameter):
    before = get(node, parameter.name)
    result = node.set_parameter(parameter.name, other_value(parameter))
    assert not result.successful and result.reason == \
        f'{parameter.name} takes effect at configure; clean the node up first'
    assert get(node, parameter.name) == before


def test_a_configured_node_keeps_its_clock(node):
    """The clock of rclpy would change at once, and absolute deadlines would be read by a clock that nobody follows."""
    result = node.set_parameter('use_sim_time', True)
    assert not result.successful and result.reason == \
        'use_sim_time takes effect at configure; clean the node up first'
    assert get(node, 'use_sim_time') is False
    assert node.ask(make_goal('one', deadline=Time(sec=int(time.time()) + 60)))[0] == SUCCEEDED


@pytest.mark.parametrize(('name', 'value', 'configured', 'told'), [
    ('use_sim_time', True, True, 'use_sim_time takes effect at configure; clean the node up first'),
    ('use_sim_time', True, False, ''),
    ('autostart', True, True, 'autostart takes effect at the start of the program only'),
    ('autostart', True, False, 'autostart takes effect at the start of the program only'),
])
def test_what_is_no_setting_changes_only_where_it_takes_effect(name, value, configured, told):
    def change():
        return parameters.check_change([Parameter(name, value=value)], configured=configured,
                                       declared=lambda name: True)

    if not told:
        assert change() == {}
        return
    with pytest.raises(ValueError, match=told):
        change()


def test_of_several_at_once_all_change_or_none(node):
    changes = [Parameter('queue_size', value=3), Parameter('feedback_rate', value=math.nan)]
    answer = node.call(SetParametersAtomically, parameters=[change.to_parameter_msg() for change in changes])
    assert not answer.result.successful and 'feedback_rate' in answer.result.reason
    assert (get(node, 'queue_size'), get(node, 'feedback_rate')) == (32, 20.0)


def test_the_node_serves_after_all_that(node):
    assert node.ask(make_goal('one'))[0] == SUCCEEDED


# -- at the start, in a node of the test's own ------------------------------------------------------------------------

@pytest.fixture(scope='module')
def declared():
    """Make a node with the given arguments; return its settings, or raise what ends the program."""
    context = Context()
    rclpy.init(context=context)

    def declare(*given: Parameter, arguments: tuple[str, ...] = ()) -> dict:
        node = Node('timebill', context=context, parameter_overrides=list(given), cli_args=['--ros-args', *arguments],
                    automatically_declare_parameters_from_overrides=True, start_parameter_services=False)
        try:
            parameters.declare(node)
            return parameters.values(node)
        finally:
            node.destroy_node()

    yield declare
    rclpy.shutdown(context=context)


@pytest.mark.parametrize('parameter', PARAMETERS, ids=by_name)
def test_what_a_node_is_given_at_the_start_is_checked(declared, parameter):
    value = other_value(parameter)
    assert declared(Parameter(parameter.name, value=value)) == check({parameter.name: value})
    # One bad value: the running node has refused the others. Each takes a ROS node, and hundreds of them made and
    # destroyed in one process have been seen to hang in the middleware.
    value = bad_values(parameter)[-1]
    with pytest.raises((InvalidParameterTypeException, InvalidParameterValueException, ValueError)) as caught:
        declared(Parameter(parameter.name, value=value))
    assert parameter.name in str(caught.value) and str(value) in str(caught.value)


@pytest.mark.parametrize(('given', 'meant'), [('cpu_affinity:=0', '0'), ('miss_rate:=0.05', 0.05),
                                              ('prediction_wait_s:=1', 1.0), ('model:=7', '7')])
def test_a_number_on_the_command_line_is_what_it_can_only_be_meant_as(declared, given, meant):
    name = given.partition(':=')[0]
    value = declared(arguments=('-p', given))[name]
    assert value == meant and type(value) is type(meant)


def test_a_file_shared_with_other_nodes_does_not_stop_this_one(declared, tmp_path, capfd):
    file = tmp_path / 'robot.yaml'
    file.write_text("""
/**:
  ros__parameters:
    queue_size: 7
    camera: {rate: 30.0, names: [left, right], sizes: [1, 2], on: [true, false], gains: [0.5]}
    qos_overrides: {/scan: {subscription: {depth: 3}}}
    use_sim_time: false
/other_node:
  ros__parameters: {queue_sise: 1}
""")
    assert declared(arguments=('--params-file', str(file))) == check({'queue_size': 7})
    log = ''.join(capfd.readouterr())
    for name in ('rate', 'names', 'sizes', 'on', 'gains'):
        assert f"unknown parameter 'camera.{name}' is ignored" in log
    assert log.count('unknown parameter') == 5
