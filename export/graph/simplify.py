"""Folding and clean-up of a freshly exported graph."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

from aweigh.export.graph.lean import share_integers, spare_layers

# Points and sampling grids of a 1333x800 input have 1 MB; they become constants. Weights are left as they are.
_LARGEST_CONSTANT_BYTES = 1 << 24
_ROUNDS = 3

# The exporter's own optimisation is switched off for the sake of one rule in it (onnxscript 0.7.2): turning Min(Max(x))
# into Clip, it names the new bounds after x, so that two clamps of one tensor get one name and the second pair of
# bounds is lost: onnxruntime refuses the file (DW's refinement does that). These are its other rules; batch
# normalisation goes into the convolutions here.
_RULES = (
    rules.add_0_rule,
    rules.sub_0_rule,
    rules.mul_by_1_rule,
    rules.div_by_1_rule,
    rules.dropout_inference_rule,
    rules.cast_cast_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.reshape_reshape_rule,
    rules.flatten_to_reshape_rule,
    rules.squeeze_reshape_1d_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.materialize_reshape_shape_rule,
    rules.fuse_pad_into_conv_rule,
    rules.fuse_batchnorm_into_conv_rule,
)


def simplify(model: ir.Model) -> None:
    """Fold constants, drop what does nothing, merge batch normalisation into convolutions; in place.

    Equal constants of floats are not shared: a bias of 0 and a threshold of 0 would be one tensor, and an edit of the
    one would be an edit of the other.
    """
    passes.InlinePass()(model)
    for _ in range(_ROUNDS):
        optimizer.fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=_LARGEST_CONSTANT_BYTES,
            output_size_limit=_LARGEST_CONSTANT_BYTES,
        )
        rewriter.rewrite(model, _RULES)
        passes.RemoveUnusedNodesPass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    share_integers(model)
    spare_layers(model)
    share_integers(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    for branch in model.graph.subgraphs():  # the pass leaves them, and ONNX Runtime warns of each
        for name, value in list(branch.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del branch.initializers[name]
    passes.RemoveUnusedOpsetsPass()(model)
    passes.OutputFixPass()(model)
    passes.NameFixPass()(model)
