"""What the ROS-free parts log, sent to rosout."""
from __future__ import annotations

import logging


def bridge(logger) -> None:
    """From now on, hand what the package logs to rclpy's `logger`."""
    class Bridge(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = self.format(record)
            # One call each: rclpy refuses a call site whose severity changes.
            if record.levelno >= logging.ERROR:
                logger.error(text)
            elif record.levelno >= logging.WARNING:
                logger.warning(text)
            else:
                logger.info(text)

    root = logging.getLogger('timebill_ros')
    root.handlers = [Bridge()]
    root.setLevel(logging.INFO)
    root.propagate = False
