"""`python -m timebill_ros.cli` is the `timebill` command."""
import sys

from timebill_ros.cli.main import main

if __name__ == '__main__':  # the processes that a benchmark spawns import this file
    sys.exit(main())
