"""The small logs and configurations of the examples' tests."""

from tests.pipelines.examples.conftest import config, log

__all__ = ["config", "log"]
