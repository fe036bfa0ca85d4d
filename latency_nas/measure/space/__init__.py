"""Op spaces: files that list the ops to be metered."""

from latency_nas.measure.space.allow_list import ALLOWED_PACKAGES
from latency_nas.measure.space.op import Op
from latency_nas.measure.space.space_file import OpSpace, read_space

__all__ = ["ALLOWED_PACKAGES", "Op", "OpSpace", "read_space"]
