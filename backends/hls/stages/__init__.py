"""A graph as stages of a dataflow, or why it cannot be one."""

from bitwright.backends.hls.stages.flow import pool_name
from bitwright.backends.hls.stages.graph import forked, stages_of
from bitwright.backends.hls.stages.kinds import (
    DEFAULT_DEPTH,
    WIDEST_BEAT,
    ForkStage,
    JoinStage,
    MeanStage,
    PointStage,
    PoolStage,
    PortStage,
    Stage,
    SumStage,
    ports_of,
    writers,
)
from bitwright.backends.hls.stages.refusals import SUPPORTED, WIDEST_ACCUMULATOR, why_not
from bitwright.backends.hls.stages.scan import Scan, Steps
from bitwright.backends.hls.stages.sums import MOST_LEVELS

__all__ = [
    "DEFAULT_DEPTH",
    "MOST_LEVELS",
    "SUPPORTED",
    "WIDEST_ACCUMULATOR",
    "WIDEST_BEAT",
    "ForkStage",
    "JoinStage",
    "MeanStage",
    "PointStage",
    "PoolStage",
    "PortStage",
    "Scan",
    "Stage",
    "Steps",
    "SumStage",
    "forked",
    "pool_name",
    "ports_of",
    "stages_of",
    "why_not",
    "writers",
]
