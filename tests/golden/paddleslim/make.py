"""Computes keys with PaddleSlim 2.6.0, and writes them beside the programs that they are of.

It needs an environment of its own, made with CPython 3.9 (the last that PaddleSlim's optimiser has wheels for):

    python3.9 -m venv ENV
    ENV/bin/pip install --no-deps paddleslim==2.6.0 paddleslim-opt-tools==2.11.2 paddlepaddle==2.6.2
    ENV/bin/pip install "numpy<2" httpx Pillow opt_einsum astor decorator "protobuf<=3.20.2" six requests pyyaml tqdm \
        "scikit-learn<1.1" pandas matplotlib opencv-python-headless==4.6.0.66 pyzmq prettytable
    PATH=ENV/bin:$PATH ENV/bin/python tests/golden/paddleslim/make.py

`NAME.json` holds the sorted keys of a network of ``paddle.vision``, and `NAME.pdmodel.gz` its program as Paddle 2.6.2
saves it, less the call stacks. `rows.json` holds the keys of made-up operators, one or more for each rule of
``get_key_from_op``. Keys are facts: nothing of PaddleSlim's code is in these files.
"""

import gzip
import json
import os
import tempfile
from pathlib import Path

import matplotlib.backends.backend_pdf  # noqa: F401 - paddle imported before it crashes on this Python
import paddle
from paddle.base.proto import framework_pb2
from paddle.vision import models
from paddleslim.analysis._utils import opt_model
from paddleslim.analysis.parse_ops import get_key_from_op
from paddleslim.core import GraphWrapper

HERE = Path(__file__).resolve().parent
NETWORKS = (
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "resnet18", "resnet50",
    "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1",
)  # fmt: skip

_X, _Y, _V = [1, 8, 4, 4], [1, 8, 1, 1], [1, 8]
_WINDOW = {"strides": [2, 1], "paddings": [0, 1, 2, 3], "groups": 2, "dilations": [1, 2]}
# type, shapes of the inputs and of the outputs in the order of their slots, attributes
ROWS = [
    ("conv2d", [[8], [8, 4, 3, 3], _X], [_X], _WINDOW),
    ("depthwise_conv2d", [[8, 1, 3, 3], _X], [_X], {**_WINDOW, "enable_int8": True, "bit_length": 8}),
    ("conv2d_transpose", [[8, 16, 2, 2], _X], [[1, 16, 8, 8]], _WINDOW),
    ("matmul", [[1, 8], [8, 9]], [[1, 9]], {}),
    ("matmul_v2", [[-1, 8], [8, 9]], [[-1, 9]], {"enable_int8": True, "bit_length": 8}),
    ("batch_norm", [[8], [8], [8], [8], _X], [[8], [8], [8], [8], _X], {}),
    ("layer_norm", [[8], [8], _V], [[1], [1], _V], {}),
    ("pool2d", [_X], [[1, 8, 2, 2]], {"ksize": [3, 2], **_WINDOW, "pooling_type": "max", "global_pooling": False}),
    ("pool2d", [_X], [_Y], {"ksize": [1, 1], **_WINDOW, "pooling_type": "avg", "adaptive": True}),
    ("pool2d", [_X], [_Y], {"ksize": [4, 4], **_WINDOW, "pooling_type": "avg", "global_pooling": True}),
    *[(op, [_X], [_X], {}) for op in (
        "hard_swish", "relu", "leaky_relu", "tanh", "swish", "softmax", "hard_sigmoid", "sigmoid", "gelu", "clip",
        "sqrt", "floor", "calib", "scale", "relu6",
    )],
    ("shape", [_X], [[4]], {}),
    ("transpose2", [_X], [[1, 4, 4, 8], [0, 1]], {"axis": [0, 2, 3, 1]}),
    ("nearest_interp_v2", [[2], _X], [[1, 8, 8, 8]], {"scale": [2.0, 2.0]}),
    ("bilinear_interp_v2", [_X], [[1, 8, 8, 8]], {}),
    ("fill_constant", [], [[1]], {"shape": [1]}),
    ("range", [[1], [1], [1]], [[5]], {}),
    ("cast", [_X], [_X], {}),
    ("expand_v2", [_Y], [_X], {}),
    ("reshape2", [_X], [[1, 128], [0, 1]], {"shape": [0, -1]}),
    ("reshape2", [[2], _X], [[1, 128], [0, 1]], {"shape": [0, -1]}),
    ("elementwise_add", [_X, [8]], [_X], {"axis": 1}),
    ("elementwise_max", [_X, _Y], [_X], {"axis": -1}),
    ("fusion_elementwise_mul_activation", [_X, _Y], [_X], {"axis": -1, "act_type": "relu"}),
    ("concat", [_X, _X, _X], [[1, 24, 4, 4]], {"axis": 1}),
    ("yolo_box", [[1, 2], [1, 255, 10, 10]], [[1, 300, 4], [1, 300, 80]], {"class_num": 80}),
    ("prior_box", [[1, 3, 9, 9], _X], [[4, 4, 3, 4], [4, 4, 3, 4]],
     {"aspect_ratios": [1.0, 2.0], "max_sizes": [], "min_sizes": [60.0]}),
    ("slice", [_X], [[1, 8, 2, 2]], {"axes": [2, 3], "starts": [0, 0], "ends": [2, 2]}),
    ("stack", [_V, _V], [[1, 2, 8]], {"axis": 1}),
    ("exp", [_X], [_X], {}),
    ("multiclass_nms3", [[1, 9, 4], [1, 2, 9]], [[3, 6], [3, 1]], {"keep_top_k": 100, "nms_top_k": 400}),
    ("matrix_nms", [[1, 9, 4], [1, 2, 9]], [[3, 6]], {"keep_top_k": 100, "nms_top_k": 400}),
    ("dropout", [_V], [_V], {}),
    ("fc", [[9], _V, [8, 9]], [[1, 9]], {}),
    ("shuffle_channel", [_X], [_X], {"group": 2}),
    ("split", [_X], [[1, 4, 4, 4], [1, 4, 4, 4]], {"axis": 1, "sections": [4, 4]}),
    ("squeeze2", [_Y], [_V, [0, 1]], {"axes": [2, 3]}),
    ("unsqueeze2", [_V], [_Y, [0, 1]], {"axes": [2, 3]}),
    ("flatten_contiguous_range", [_X], [[1, 128], [0, 1]], {"start_axis": 1, "stop_axis": -1}),
    ("sum", [_V, _V], [_V], {}),
    ("uniform_random", [], [[1, 8]], {"shape": [-1, 8]}),
    ("greater_equal", [_V, _V], [_V], {}),
    ("reduce_mean", [_X], [_V], {"dim": [2, 3]}),
    ("pad3d", [_X], [[1, 8, 6, 6]], {"paddings": [1, 1, 1, 1, 0, 0]}),
    ("arg_max", [_V], [[1]], {"axis": -1}),
    ("fill_constant_batch_size_like", [_V], [[1, 4]], {"shape": [-1, 4]}),
    ("rnn", [[1, 5, 8], [2, 1, 8]], [[1], [1, 5, 8], [2, 1, 8]], {}),
    ("feed", [[1]], [_X], {}),
    ("fetch", [_V], [[1]], {}),
]  # fmt: skip


class Shaped:
    """A variable."""

    def __init__(self, shape):
        self._shape = tuple(shape)

    def shape(self):
        return self._shape

    def name(self):
        return "weight"


class Stub:
    """An operator, with what ``get_key_from_op`` reads of it."""

    def __init__(self, type_, inputs, outputs, attrs):
        self._type, self._attrs = type_, attrs
        self._inputs, self._outputs = [Shaped(shape) for shape in inputs], [Shaped(shape) for shape in outputs]

    def type(self):
        return self._type

    def all_inputs(self):
        return self._inputs

    def all_outputs(self):
        return self._outputs

    def attr(self, name):
        return self._attrs.get(name)


def keys_of_network(name, folder):
    """Save a network, have it optimised as PaddleSlim's ``predict`` does, and read its keys."""
    net = getattr(models, name)()
    net.eval()
    path = str(Path(folder, name))
    spec = [paddle.static.InputSpec([1, 3, 224, 224], "float32", "x")]
    # without clip_extra=False, opt 2.11.2 aborts on what Paddle 2.6 saves
    paddle.jit.save(net, path, input_spec=spec, clip_extra=False)
    optimised = opt_model(model_file=f"{path}.pdmodel", param_file=f"{path}.pdiparams", optimize_out_type="protobuf")
    paddle.enable_static()
    program = paddle.static.Program.parse_from_string(Path(optimised).read_bytes())
    keys = [get_key_from_op(op) for op in GraphWrapper(program).ops()]
    paddle.disable_static()
    stripped = framework_pb2.ProgramDesc.FromString(Path(f"{path}.pdmodel").read_bytes())
    for block in stripped.blocks:
        for op in block.ops:
            kept = [attr for attr in op.attrs if attr.name != "op_callstack"]
            del op.attrs[:]
            op.attrs.extend(kept)
    return sorted(key for key in keys if key), stripped.SerializeToString()


def main():
    rows = [[*row, get_key_from_op(Stub(*row))] for row in ROWS]
    (HERE / "rows.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in NETWORKS:
            keys, program = keys_of_network(name, folder)
            (HERE / f"{name}.json").write_text(json.dumps(keys, indent=0) + "\n")
            (HERE / f"{name}.pdmodel.gz").write_bytes(gzip.compress(program, 9, mtime=0))


if __name__ == "__main__":
    main()
