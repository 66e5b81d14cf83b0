"""A strict stand-in for EC2, EBS direct APIs and S3 on this machine, to try the way to an AMI on.

See docs/cloud.md for what it checks and what it does not.
"""

from imagebuilder.cloud.faults import Fault
from imagebuilder.cloud.running import RunningCloud, find_cloud, running_cloud, start_cloud, stop_cloud
from imagebuilder.cloud.tuning import Tuning

__all__ = ["Fault", "RunningCloud", "Tuning", "find_cloud", "running_cloud", "start_cloud", "stop_cloud"]
