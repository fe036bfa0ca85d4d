"""Parses the ``.json`` of Paddle 3's intermediate representation (PIR) into operators with the names of ``.pdmodel``.

The two formats differ in three ways. Names differ: ``add`` is ``elementwise_add``. Some attributes are operands in PIR:
an operator computes a pool's size. And lists of tensors are combined and split by operators.
"""

from __future__ import annotations

import json
from typing import Any

from latency_nas.errors import GraphError
from latency_nas.graph.paddle.program import PaddleOp, PaddleProgram, PaddleVariable, variable

__all__ = ["parse_pir"]

_DTYPES = {
    "bool": "bool", "i8": "int8", "ui8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "f16": "fp16",
    "bf16": "bf16", "f32": "fp32", "f64": "fp32",
}  # fmt: skip

_X, _XY, _OUT = ("X",), ("X", "Y"), ("Out",)

# operator in PIR -> its name, the slots of its operands, and the slots of its results in .pdmodel. A slot in lower case
# is an attribute in .pdmodel. Its value becomes an attribute if the program states it.
_NAMES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    **{op: (op, ("Input", "Filter"), ("Output",)) for op in ("conv2d", "depthwise_conv2d", "conv3d")},
    **{
        op: (op, ("Input", "Filter", "output_size"), ("Output",))
        for op in ("conv2d_transpose", "depthwise_conv2d_transpose", "conv3d_transpose")
    },
    **dict.fromkeys(("batch_norm", "batch_norm_"), ("batch_norm", ("X", "Mean", "Variance", "Scale", "Bias"), ("Y",))),
    **{op: (op, ("X", "Scale", "Bias"), ("Y",)) for op in ("layer_norm", "instance_norm", "group_norm")},
    "pool2d": ("pool2d", ("X", "ksize"), _OUT),
    "matmul": ("matmul_v2", _XY, _OUT),
    "bmm": ("bmm", _XY, _OUT),
    "add": ("elementwise_add", _XY, _OUT),
    "subtract": ("elementwise_sub", _XY, _OUT),
    "multiply": ("elementwise_mul", _XY, _OUT),
    "divide": ("elementwise_div", _XY, _OUT),
    "elementwise_pow": ("elementwise_pow", _XY, _OUT),
    "remainder": ("elementwise_mod", _XY, _OUT),
    "floor_divide": ("elementwise_floordiv", _XY, _OUT),
    "maximum": ("elementwise_max", _XY, _OUT),
    "minimum": ("elementwise_min", _XY, _OUT),
    **{
        op: (op, _XY, _OUT) for op in ("equal", "not_equal", "greater_than", "greater_equal", "less_than", "less_equal")
    },
    **{op: (op, _XY, _OUT) for op in ("logical_and", "logical_or")},
    "where": ("where", ("Condition", "X", "Y"), _OUT),
    "hardswish": ("hard_swish", _X, _OUT),
    "hardsigmoid": ("hard_sigmoid", _X, _OUT),
    "prelu": ("prelu", ("X", "Alpha"), _OUT),
    "clip": ("clip", ("X", "min", "max"), _OUT),
    "scale": ("scale", ("X", "scale"), _OUT),
    "pow": ("pow", _X, _OUT),
    "reshape": ("reshape2", ("X", "shape"), _OUT),
    "flatten": ("flatten_contiguous_range", _X, _OUT),
    "squeeze": ("squeeze2", ("X", "axes"), _OUT),
    "unsqueeze": ("unsqueeze2", ("X", "axes"), _OUT),
    "transpose": ("transpose2", _X, _OUT),
    "concat": ("concat", ("X", "axis"), _OUT),
    "split": ("split", ("X", "sections", "axis"), _OUT),
    "split_with_num": ("split", ("X", "axis"), _OUT),
    "stack": ("stack", _X, ("Y",)),
    "unbind": ("unbind", _X, _OUT),
    "slice": ("slice", ("Input", "starts", "ends"), _OUT),
    "strided_slice": ("strided_slice", ("Input", "starts", "ends", "strides"), _OUT),
    "expand": ("expand_v2", ("X", "shape"), _OUT),
    "tile": ("tile", ("X", "repeat_times"), _OUT),
    "gather": ("gather", ("X", "Index", "axis"), _OUT),
    "embedding": ("lookup_table_v2", ("Ids", "W"), _OUT),
    "pad3d": ("pad3d", ("X", "paddings"), _OUT),
    "bilinear_interp": ("bilinear_interp_v2", ("X", "OutSize", "SizeTensor", "Scale"), _OUT),
    "nearest_interp": ("nearest_interp_v2", ("X", "OutSize", "SizeTensor", "Scale"), _OUT),
    "dropout": ("dropout", ("X", "seed", "dropout_prob"), _OUT),
    **{op: (f"reduce_{op}", ("X", "dim"), _OUT) for op in ("mean", "sum", "max", "min", "prod")},
    "cumsum": ("cumsum", ("X", "axis"), _OUT),
    "argmax": ("arg_max", ("X", "axis"), _OUT),
    "topk": ("top_k_v2", ("X", "k"), ("Out", "Indices")),
    "arange": ("range", ("Start", "End", "Step"), _OUT),
    "full_with_tensor": ("fill_constant", ("ValueTensor", "ShapeTensor"), _OUT),
    "uniform": ("uniform", ("shape", "min", "max"), _OUT),
    **{op: (op, ("shape",), _OUT) for op in ("gaussian", "randint")},
    "add_n": ("sum", _X, _OUT),
    "expand_as": ("expand_as_v2", _XY, _OUT),
    "index_select": ("index_select", ("X", "Index"), _OUT),
    "isnan": ("isnan_v2", _X, _OUT),
    "isinf": ("isinf_v2", _X, _OUT),
    "grid_sample": ("grid_sampler", ("X", "Grid"), _OUT),
    "logical_xor": ("logical_xor", _XY, _OUT),
    "roll": ("roll", ("X", "shifts"), _OUT),
    "rnn": ("rnn", ("Input", "PreState", "WeightList", "SequenceLength"), ("Out", "DropoutState", "State", "Reserve")),
    "shape64": ("shape", ("Input",), _OUT),
    "shape": ("shape", ("Input",), _OUT),
    "quantize_linear": ("quantize_linear", ("X", "Scale", "ZeroPoint"), ("Y",)),
    "dequantize_linear": ("dequantize_linear", ("X", "Scale", "ZeroPoint"), ("Y",)),
}

# operator in .pdmodel -> attribute in PIR -> its name in .pdmodel
_ATTRS: dict[str, dict[str, str]] = {
    "batch_norm": {"data_format": "data_layout"},
    "matmul_v2": {"transpose_x": "trans_x", "transpose_y": "trans_y"},
    "transpose2": {"perm": "axis"},
    "index_select": {"axis": "dim"},
    "cast": {"dtype": "out_dtype"},
    **{f"max_pool{n}d_with_index": {"kernel_size": "ksize"} for n in (2, 3)},
    **{f"reduce_{op}": {"axis": "dim", "keepdim": "keep_dim"} for op in ("mean", "sum", "max", "min", "prod")},
}


def parse_pir(data: bytes, source: str) -> PaddleProgram:
    """Parse the content of the file `source`.

    Raises:
        GraphError: if the data is not such JSON.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise GraphError(
            f"Expected {source} to be a Paddle program (JSON), but it is truncated or something else ({error})."
        ) from error
    try:
        ops = content["program"]["regions"][0]["blocks"][0]["ops"]
    except (LookupError, TypeError) as error:
        raise GraphError(
            f"Expected {source} to be a Paddle program (JSON), but it has no `program.regions[0].blocks[0].ops`."
        ) from error
    if not isinstance(ops, list) or not ops:
        raise GraphError(f"Expected {source} to be a Paddle program (JSON), but it holds no operators.")
    block = _Block()
    for number, op in enumerate(ops):
        try:
            block.add(op)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
            kind = op.get("#") if isinstance(op, dict) else None
            raise GraphError(
                f"Expected the operators of {source} to have a type, operands and results, but number {number} "
                f"({kind if isinstance(kind, str) else 'no type'}) cannot be read ({type(error).__name__}: {error})."
            ) from error
    return PaddleProgram(ops=tuple(block.ops), variables=block.variables)


def _decoded(attribute: Any) -> Any:
    kind, value = attribute["#"], attribute.get("D")
    if kind == "0.a_array":
        return tuple(_decoded(item) for item in value)
    return tuple(value) if isinstance(value, list) else value


class _Block:
    """Translates operators, in order."""

    def __init__(self) -> None:
        self.ops: list[PaddleOp] = []
        self.variables: dict[str, PaddleVariable] = {}
        # number of a result -> name of the tensor, or names of the tensors in a list
        self._names: dict[int, str | tuple[str, ...]] = {}
        self._stated: dict[int, Any] = {}  # number of a result -> value that the program states

    def add(self, op: Any) -> None:
        kind = op["#"]
        if kind == "p":
            self._define(op["O"], op["A"][3], persistable=True)
            return
        attrs = {item["N"]: _decoded(item["AT"]) for item in op["A"]}
        operands, results = [item["%"] for item in op["I"]], op["O"]
        if kind == "0.combine":
            self._names[results[0]["%"]] = tuple(str(self._names[index]) for index in operands)
        elif kind in ("0.split", "0.slice"):
            names = self._names[operands[0]]
            chosen = names if kind == "0.split" else names[attrs["index"] : attrs["index"] + 1]
            self._names.update({result["%"]: name for result, name in zip(results, chosen, strict=True)})
        else:
            if kind in ("1.full", "1.full_int_array"):
                whole = attrs["dtype"].startswith("int") and not isinstance(attrs["value"], tuple)
                self._stated[results[0]["%"]] = int(attrs["value"]) if whole else attrs["value"]
            self.ops.append(self._translate(kind.split(".", 1)[-1], attrs, operands, results))

    def _translate(self, kind: str, attrs: dict[str, Any], operands: list[int], results: list[Any]) -> PaddleOp:
        default = tuple(f"X{number or ''}" for number in range(len(operands)))
        name, sources, targets = _NAMES.get(kind, (kind, default, _OUT))
        if kind == "data":
            name, sources = "feed", ()
        renamed = {_ATTRS.get(name, {}).get(key, key): value for key, value in attrs.items()}
        inputs: dict[str, tuple[str, ...]] = {}
        for slot, index in zip(sources, operands, strict=False):
            if slot[0].islower() and index in self._stated:
                renamed[slot] = self._stated[index]
            elif index:  # 0 means a missing operand
                names = self._names[index]
                inputs[slot] = names if isinstance(names, tuple) else (names,)
        more = (f"Result{position}" for position in range(len(targets), len(results)))
        outputs = {
            slot: self._define(result, str(attrs["name"]) if kind == "data" else f"%{result['%']}")
            for slot, result in zip((*targets, *more), results, strict=False)
            if slot in targets or isinstance(result["TT"].get("D"), list)  # some results for training have no type
        }
        layer = str(renamed.pop("struct_name", "")).strip("/")
        return PaddleOp(type=name, inputs=inputs, outputs=outputs, attrs=renamed, layer=layer)

    def _define(self, result: Any, name: str, *, persistable: bool = False) -> tuple[str, ...]:
        kind = result["TT"]
        if kind["#"] == "0.t_vec":
            names = tuple(f"{name}.{number}" for number in range(len(kind["D"])))
            self._names[result["%"]] = names
            self.variables.update(
                {name: self._variable(item, persistable) for name, item in zip(names, kind["D"], strict=True)}
            )
            return names
        self._names[result["%"]] = name
        self.variables[name] = self._variable(kind, persistable)
        return (name,)

    @staticmethod
    def _variable(kind: Any, persistable: bool) -> PaddleVariable:
        element, sizes = kind["D"][0]["#"].removeprefix("0.t_"), kind["D"][1]
        return variable(tuple(map(int, sizes)), _DTYPES.get(element, element), persistable)
