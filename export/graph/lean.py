"""Rewrites after which TensorRT's parser makes fewer layers of a graph; the numbers stay the same, bit for bit.

The parser computes shapes by layers of their own wherever one axis is free, as that of the batch is: 27 for a Slice
between constants, 14 for an Expand. Each constant whose rank is below that of the other operand costs a reshape, each
list of indices in 64 bits a cast.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

# Operators that broadcast their inputs.
_COMPARISONS = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
_BROADCASTING = _COMPARISONS | {"Add", "And", "Div", "Max", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Where", "Xor"}
_MOST_SHARED, _MOST_SHARED_OPERAND = 1024, 16  # elements of a constant that is held once
# A Gather copies block by block: a Slice that would become more blocks than this stays.
_MOST_BLOCKS = 4096


def share_integers(model: ir.Model) -> None:
    """Hold equal constants of integers once: axes, shapes, indices. A branch reads the main graph's and its own."""
    _share(model, lambda value, array: array.dtype.kind in "iu")


def share_operands(model: ir.Model) -> None:
    """The same for small constants of any type that only operators read which broadcast them: thresholds, zeros.

    For a graph that is done: an edit of one would be an edit of all.
    """
    _share(
        model,
        lambda value, array: (
            array.size <= _MOST_SHARED_OPERAND and all(user.op_type in _BROADCASTING for user in value.consumers())
        ),
    )


def _share(model: ir.Model, wanted: Callable[[ir.Value, npt.NDArray[np.generic]], bool]) -> None:
    of_model: dict[tuple[ir.DataType, tuple[int, ...], bytes], ir.Value] = {}
    for graph in (model.graph, *model.graph.subgraphs()):
        known = of_model if graph is model.graph else dict(of_model)
        for name, value in list(graph.initializers.items()):
            array = _array(value)
            if array is None or array.size > _MOST_SHARED or value.is_graph_output() or not wanted(value, array):
                continue
            assert value.const_value is not None
            first = known.get(key := (value.const_value.dtype, array.shape, array.tobytes()))
            if first is not None:
                value.replace_all_uses_with(first)
                del graph.initializers[name]
            else:
                known[key] = value


def spare_layers(model: ir.Model) -> None:
    """Every rewrite of this module, in place; what is left without a use stays for the caller to remove."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for node in list(graph):
            if node.op_type == "GatherElements":
                _rows_by_index(node)
            elif node.op_type == "Slice":
                _constant_part(node)
            elif node.op_type == "Reshape":
                _shape_of_another(node)
            elif node.op_type == "Unsqueeze":
                _known_shape(node)
    for graph in (model.graph, *model.graph.subgraphs()):
        for node in graph:
            if node.op_type == "Gather":
                _short_indices(node)
    _equal_ranks(model)


def _rows_by_index(node: ir.Node) -> None:
    """GatherElements whose index is the same all along the last axis: whole rows, by one GatherND."""
    values, index = node.inputs
    assert values is not None
    assert index is not None
    expand = index.producer()
    if expand is None or expand.op_type != "Expand" or node.attributes.get_int("axis", 0) not in (1, -2):
        return
    [narrow, _] = expand.inputs
    wide = _shape(values)
    if narrow is None or len(wide) != 3 or not isinstance(wide[2], int) or wide[2] == 1:
        return
    if _shape(narrow) == (*_shape(index)[:2], 1) and _shape(index)[2:] == wide[2:]:
        _replace(node, "GatherND", [values, narrow], {"batch_dims": 1})


def _constant_part(node: ir.Node) -> None:
    """A Slice of one known axis between constants: Gather, and without the axis where only one of it is left."""
    data, *bounds = node.inputs
    assert data is not None
    arrays = [_array(value) for value in bounds]
    if len(arrays) < 3 or any(array is None or array.size != 1 for array in arrays):
        return
    start, end, axis, step = (*(int(array.item()) for array in arrays if array is not None), 1)[:4]
    shape = _shape(data)
    axis %= max(len(shape), 1)
    side = shape[axis] if len(shape) > 1 else None
    if step != 1 or not isinstance(side, int):
        return
    chosen = range(side)[start:end]
    before = shape[1:axis]
    known = [side for side in before if isinstance(side, int)]
    if not chosen or len(known) < len(before) or math.prod(known) * len(chosen) > _MOST_BLOCKS:
        return
    [part] = node.outputs
    squeezes = [user for user in part.consumers() if user.op_type == "Squeeze"]
    if len(chosen) == 1 and squeezes and len(squeezes) == len(part.uses()) and not part.is_graph_output():
        for squeeze in squeezes:
            axes = _array(squeeze.inputs[1]) if len(squeeze.inputs) > 1 else None
            if axes is not None and [each % len(shape) for each in axes.tolist()] == [axis]:
                index = _constant(node, f"{part.name}_index", np.array(chosen[0], np.int64))
                _replace(squeeze, "Gather", [data, index], {"axis": axis})
        return
    index = _constant(node, f"{part.name}_index", np.array(chosen, np.int64))
    _replace(node, "Gather", [data, index], {"axis": axis})


def _shape_of_another(node: ir.Node) -> None:
    """Reshape to another tensor's shape, of which all but one side are known: to a constant."""
    shape = node.inputs[1]
    source = None if shape is None else shape.producer()
    if source is None or source.op_type != "Shape" or node.attributes.get_int("allowzero", 0) != 0:
        return
    if source.attributes.get_int("start", 0) != 0 or "end" in source.attributes:
        return
    shape = _wanted_shape(node, source.inputs[0])
    if shape is not None:
        node.replace_input_with(1, shape)


def _known_shape(node: ir.Node) -> None:
    """Unsqueeze as Reshape, whose shape is no layer, as axes are."""
    [data, _] = node.inputs
    shape = _wanted_shape(node, node.outputs[0])
    if data is not None and shape is not None:
        _replace(node, "Reshape", [data, shape], {})


def _wanted_shape(node: ir.Node, like: ir.Value | None) -> ir.Value | None:
    """The constant that reshapes to the shape of another tensor; None where more than one side is not known."""
    sides = _shape(like)
    free = [side for side in sides if not isinstance(side, int)]
    if len(free) > 1 or not sides or 0 in sides:
        return None
    wanted = np.array([side if isinstance(side, int) else -1 for side in sides], np.int64)
    return _constant(node, f"{node.outputs[0].name}_shape", wanted)


def _short_indices(node: ir.Node) -> None:
    """Constant indices: in 32 bits, as TensorRT wants them for all but shapes, which are of 64."""
    data, index = node.inputs
    array = _array(index)
    if array is None or data is None or array.dtype != np.int64 or len(_shape(data)) < 2:
        return
    assert index is not None
    name = f"{index.name}_int32"
    graph = index.graph
    assert graph is not None
    known = graph.initializers.get(name)
    node.replace_input_with(1, known or _constant(node, name, array.astype(np.int32), graph))


def _equal_ranks(model: ir.Model) -> None:
    """Constants get the rank of what they are broadcast against."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in list(graph.initializers.values()):
            array = _array(value)
            wanted = {use: _rank(use.node) for use in value.uses()}
            ranks = {rank for rank in wanted.values() if rank > (0 if array is None else array.ndim)}
            if array is None or not ranks:
                continue
            if ranks == set(wanted.values()) and len(ranks) == 1 and not value.is_graph_output():
                _set(value, array.reshape(_padded(array, ranks.pop())))
                continue
            for rank in sorted(ranks):
                name = f"{value.name}_rank{rank}"
                copy = _constant(None, name, array.reshape(_padded(array, rank)), graph)
                for use, own in wanted.items():
                    if own == rank:
                        use.node.replace_input_with(use.idx, copy)


def _rank(node: ir.Node) -> int:
    """Of the result of an operator that broadcasts; 0 for other operators, and where it is not known."""
    shape = node.outputs[0].shape
    return 0 if node.op_type not in _BROADCASTING or shape is None else len(shape)


def _padded(array: npt.NDArray[np.generic], rank: int) -> tuple[int, ...]:
    return (*(1,) * (rank - array.ndim), *array.shape)


def _array(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The numbers of an initializer; None of anything else."""
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return value.const_value.numpy()


def _shape(value: ir.Value | None) -> tuple[int | str, ...]:
    """Numbers, and the names of free axes; empty where it is not known."""
    shape = None if value is None else value.shape
    return () if shape is None else tuple(side if isinstance(side, int) else str(side) for side in shape)


def _constant(
    node: ir.Node | None, name: str, array: npt.NDArray[np.generic], graph: ir.Graph | None = None
) -> ir.Value:
    """A new initializer of the graph, or of the node's."""
    graph = graph or (node.graph if node is not None and isinstance(node.graph, ir.Graph) else None)
    assert graph is not None
    value = ir.Value(name=name)
    _set(value, array)
    graph.register_initializer(value)
    return value


def _set(value: ir.Value, array: npt.NDArray[np.generic]) -> None:
    dtype = ir.DataType.from_numpy(array.dtype) if value.const_value is None else value.const_value.dtype
    value.const_value = ir.Tensor(array, dtype=dtype, name=value.name)
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(dtype)


def _replace(node: ir.Node, op_type: str, inputs: list[ir.Value], attributes: dict[str, int]) -> None:
    """Another operator in the node's place; its result keeps name, type and shape."""
    [old] = node.outputs
    name = old.name
    new = ir.node(op_type, inputs, attributes, name=node.name)
    new.outputs[0].shape, new.outputs[0].type = old.shape, old.type
    graph = node.graph
    assert graph is not None
    graph.insert_before(node, new)
    for i, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[i] = new.outputs[0]
    old.replace_all_uses_with(new.outputs[0])
    graph.remove(node, safe=True)
    new.outputs[0].name = name
