"""An LLM under hard deadlines, as a ROS 2 action server."""
import pkgutil

# The build puts the generated msg, action and srv into the installed package of this name. With a checkout
# first on sys.path this file would hide them, so look for subpackages in every timebill_ros folder there.
__path__ = pkgutil.extend_path(__path__, __name__)
