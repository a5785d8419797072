"""Keeps a test run apart from the ROS graph, the caches and the logs of the machine it runs on.

Set on import, before any test imports rclpy, and inherited by every process that a test starts.
"""
import atexit
import os
import shutil
import tempfile

_home = tempfile.mkdtemp(prefix='timebill_test_')
atexit.register(shutil.rmtree, _home, ignore_errors=True)

os.environ['HOME'] = _home
os.environ['XDG_CACHE_HOME'] = os.path.join(_home, '.cache')
os.environ['ROS_LOG_DIR'] = os.path.join(_home, 'ros_log')
os.environ['HF_HUB_OFFLINE'] = '1'

# One domain per run, so that two runs on a machine do not hear each other. Up to 101: the ports of
# higher domains overlap with the ones that the kernel hands out.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
if os.environ.get('ROS_DISTRO') == 'humble':  # knows only the older name, which newer ones warn about
    os.environ['ROS_LOCALHOST_ONLY'] = '1'
