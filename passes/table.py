"""The passes by name: the whole table, written out."""

from __future__ import annotations

from bitwright.passes.accumulators import DeriveAccumulators
from bitwright.passes.activations import FuseActivations
from bitwright.passes.affine import RecogniseAffine
from bitwright.passes.base import Pass
from bitwright.passes.batch import OpenBatch
from bitwright.passes.batchnorm import ExpandBatchnorm, FuseBatchnorm
from bitwright.passes.ceilings import ExplicitPads
from bitwright.passes.constants import FoldConstants, RemoveDead
from bitwright.passes.dense import RecogniseDense
from bitwright.passes.expand import ExpandActivations
from bitwright.passes.fine import PruneWeights
from bitwright.passes.formats import AnnotateFormats, AssignFormats
from bitwright.passes.freeze import FreezeInputs
from bitwright.passes.identities import RemoveIdentities
from bitwright.passes.inputs import FloatInputs
from bitwright.passes.lines import WidenLines
from bitwright.passes.normalise import Normalise
from bitwright.passes.pads import FusePads
from bitwright.passes.pooling import FusePooling
from bitwright.passes.pruning import PruneChannels
from bitwright.passes.quantizers import RecogniseQuantizers
from bitwright.passes.reductions import RecogniseReductions
from bitwright.passes.refit import Refit
from bitwright.passes.reshapes import MergeReshapes
from bitwright.passes.shapes import FoldShapes
from bitwright.passes.softmax import DropSoftmax
from bitwright.passes.split import SplitChannels
from bitwright.passes.transposes import CancelTransposes

PASSES: dict[str, type[Pass]] = {
    kind.name: kind
    for kind in (
        AnnotateFormats,
        AssignFormats,
        CancelTransposes,
        DeriveAccumulators,
        DropSoftmax,
        ExpandActivations,
        ExpandBatchnorm,
        ExplicitPads,
        FloatInputs,
        FoldConstants,
        FoldShapes,
        FreezeInputs,
        FuseActivations,
        FuseBatchnorm,
        FusePads,
        FusePooling,
        MergeReshapes,
        Normalise,
        OpenBatch,
        PruneChannels,
        PruneWeights,
        RecogniseAffine,
        RecogniseDense,
        RecogniseReductions,
        RecogniseQuantizers,
        Refit,
        RemoveDead,
        RemoveIdentities,
        SplitChannels,
        WidenLines,
    )
}

# What every network goes through before formats are chosen: it computes the same, in fewer and more regular nodes.
STRUCTURE = (
    "freeze-inputs,recognise-quantizers,fold-constants,fold-shapes,normalise,remove-dead,"
    "expand-activations,fuse-batchnorm,expand-batchnorm,fuse-batchnorm,fuse-activations,fuse-pooling,remove-dead"
)
