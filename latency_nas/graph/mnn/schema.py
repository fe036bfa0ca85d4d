"""What MNN's schema says of the ops that this library reads: numbers of types, fields of tables, their defaults.

References:
    MNN's ``schema/default/MNN.fbs``, ``CaffeOp.fbs``, ``TensorflowOp.fbs`` and ``UserDefine.fbs``, at release 3.6.1.
"""

from __future__ import annotations

from itertools import chain

__all__ = [
    "BINARY",
    "DTYPES",
    "NET",
    "OP",
    "OP_TYPES",
    "PARAMETERS",
    "REDUCTIONS",
    "RESIZES",
    "TABLES",
    "UNARY",
    "Fields",
]

# first number -> names of the op types from there on
_RUNS: dict[int, str] = {
    0: "AbsVal QuantizedAdd ArgMax AsString InstanceNorm BatchToSpaceND Copy BinaryOp Bnll Cast Concat Const "
    "Convolution ConvolutionDepthwise Crop CropAndResize ImageProcess Deconvolution DeconvolutionDepthwise Dequantize "
    "DetectionOutput Dropout Eltwise ELU Unique Exp ExpandDims Fill Flatten Im2Col Gather GatherV2 Im2Seq InnerProduct "
    "Input Interp Log LRN LSTM MatMul MoE NonMaxSuppression NonMaxSuppressionV2 Normalize Pack Padding Permute Pooling "
    "Power PReLU PriorBox Proposal QuantizedAvgPool QuantizedBiasAdd QuantizedConcat QuantizedDepthwiseConv2D "
    "QuantizedLogistic RasterAndInterpolate QuantizedMaxPool Texture RasterDiff QuantizedReshape QuantizedSoftmax "
    "QuantizeMaxMin QuantizeV2 Range Rank ReduceJoin Reduction ReLU ReLU6 RequantizationRange Requantize Reshape "
    "Resize RNN ROIPooling Scale Selu Seq2Out Shape Sigmoid Size Slice SliceTf Softmax SpaceToBatchND SpatialProduct "
    "Col2Im Segment Squeeze StridedSlice CastLike StringSplit StringToNumber TanH TfQuantizedConv2D Threshold Tile "
    "TopKV2 Transpose UnaryOp Unpack Where Moments RNNSequenceGRU BatchMatMul Unsqueeze CosineSimilarity DepthToSpace "
    "SpaceToDepth ReverseSequence Pooling3D Convolution3D MatrixBandPart GatherND DetectionPostProcess UnravelIndex "
    "ScatterNd OneHot BroadcastTo Dilation2D Interp3D",
    128: "Raster ConvertTensor ArgMin LinSpace RandomUniform TensorArray TensorArraySize TensorArrayRead "
    "TensorArrayWrite TensorArrayGather TensorArrayScatter TensorArraySplit TensorArrayConcat LSTMBlockCell Reverse "
    "ROIAlign RandomNormal TensorArrayInsert TensorArrayErase EyeLike CumSum Det CumProd ScatterElements "
    "GatherElements Svd Histogram DynamicQuant Stft",
    256: "Plugin Select ZerosLike Broastcast SetDiff1D ReluGrad Identity PoolGrad SoftmaxGrad Conv2DBackPropFilter "
    "TrainableParam BatchNorm ConvTranspose3D ZeroGrad",
    299: "Attention FmhaV2 Fmhca SeqLen2Spatial SplitGeLU GroupNorm LinearAttention RoPE FusedLinear GatedRMSNorm",
    512: "Extra ConvInt8 Int8ToFloat DepthwiseConvInt8",
    517: "FloatToInt8 EltwiseInt8",
    600: "While If",
    603: "LayerNorm GridSample",
}
OP_TYPES: dict[int, str] = dict(chain.from_iterable(enumerate(names.split(), first) for first, names in _RUNS.items()))

Fields = dict[str, tuple[int, str, float]]
"""Name of a field -> its number, its kind, and its default. A kind is a code of `struct` (``?`` for a truth value), in
brackets for a vector; ``s`` for a text; or the name of a table."""

NET = {"ops": 3, "outputs": 4, "tensors": 7}
OP = {"inputs": 0, "kind": 1, "main": 2, "name": 3, "outputs": 4, "type": 5}

_CONVOLUTION: Fields = {
    "padX": (0, "i", 0), "padY": (1, "i", 0), "kernelX": (2, "i", 1), "kernelY": (3, "i", 1), "strideX": (4, "i", 1),
    "strideY": (5, "i", 1), "dilateX": (6, "i", 1), "dilateY": (7, "i", 1), "padMode": (8, "b", 0),
    "group": (9, "i", 1), "outputCount": (10, "i", 0), "inputCount": (11, "i", 0), "relu": (12, "?", 0),
    "relu6": (13, "?", 0), "pads": (14, "[i]", 0), "outPads": (15, "[i]", 0),
}  # fmt: skip

# number in the union `OpParameter` -> fields that are read; tables without any are left out
PARAMETERS: dict[int, Fields] = {
    2: {"axis": (2, "i", 0)},  # ArgMax
    4: {"axis": (0, "i", 0)},  # Axis
    6: {"opType": (0, "i", 0), "activationType": (2, "i", 0)},  # BinaryOp
    7: {"dims": (0, "[i]", 0), "dataType": (2, "i", 1), "int32s": (5, "[i]", 0),
        "float32s": (7, "[f]", 0)},  # Blob
    8: {"dstT": (1, "i", 0)},  # CastParam
    9: {"common": (0, "_CONVOLUTION", 0), "bias": (2, "[f]", 0), "symmetricQuan": (4, "_QUANTISED", 0),
        "external": (6, "[q]", 0)},  # Convolution2D
    17: {"axis": (0, "i", 0), "endAxis": (1, "i", 0)},  # Flatten
    18: {"axis": (3, "i", 0)},  # Gather
    21: {"dims": (0, "[i]", 0), "dtype": (1, "i", 1), "dformat": (2, "b", 2)},  # Input
    22: {"widthScale": (0, "f", 0.0), "heightScale": (1, "f", 0.0), "outputWidth": (2, "i", 0),
         "outputHeight": (3, "i", 0), "resizeType": (4, "i", 0)},  # Interp
    25: {"transposeA": (1, "?", 0), "transposeB": (2, "?", 0)},  # MatMul
    29: {"dims": (0, "[i]", 0)},  # Permute
    31: {"padX": (0, "i", 0), "padY": (1, "i", 0), "isGlobal": (2, "?", 0), "kernelX": (3, "i", 0),
         "kernelY": (4, "i", 0), "strideX": (5, "i", 0), "strideY": (6, "i", 0), "type": (7, "b", 0),
         "padType": (8, "b", 0), "ceilModel": (10, "?", 1), "pads": (11, "[i]", 0)},  # Pool
    50: {"operation": (0, "b", 0), "dim": (1, "[i]", 0), "keepDims": (3, "?", 0)},  # ReductionParam
    61: {"axis": (0, "i", 0), "slicePoints": (1, "[i]", 0)},  # Slice
    64: {"squeezeDims": (0, "[i]", 0)},  # SqueezeParam
    51: {"slope": (0, "f", 0.0)},  # Relu
    55: {"dims": (0, "[i]", 0)},  # Reshape
    52: {"minValue": (0, "f", 0.0), "maxValue": (1, "f", 6.0)},  # Relu6
    65: {"beginMask": (2, "i", 0), "endMask": (3, "i", 0), "ellipsisMask": (4, "i", 0), "newAxisMask": (5, "i", 0),
         "shrinkAxisMask": (6, "i", 0), "fromType": (7, "i", 0)},  # StridedSliceParam
    66: {"dest": (1, "b", 0)},  # TensorConvertInfo
    70: {"opType": (0, "i", 0)},  # UnaryOp
    79: {"strides": (0, "[i]", 0), "kernels": (1, "[i]", 0), "pads": (2, "[i]", 0), "type": (3, "b", 0),
         "padType": (4, "b", 0), "isGlobal": (5, "?", 0)},  # Pool3D
    73: {"adjX": (0, "?", 0), "adjY": (1, "?", 0)},  # BatchMatMulParam
    88: {"axis": (0, "[i]", 0), "group": (4, "i", 1), "useRMSNorm": (6, "?", 0)},  # LayerNorm
}  # fmt: skip
TABLES: dict[str, Fields] = {"_CONVOLUTION": _CONVOLUTION, "_QUANTISED": {"bias": (1, "[i]", 0)}}

# number of an operation -> its name in the vocabulary of kernels
BINARY: dict[int, str] = {
    0: "add", 1: "sub", 2: "mul", 3: "div", 4: "maximum", 5: "minimum", 6: "pow", 7: "div", 8: "minimum", 9: "maximum",
    10: "greater", 11: "greater_equal", 12: "less", 15: "equal", 16: "less_equal", 17: "mod", 19: "mod",
    21: "logical_or", 22: "not_equal", 23: "logical_and", 24: "logical_or", 25: "logical_xor", 26: "logical_xor",
}  # fmt: skip
UNARY: dict[int, str] = {
    0: "abs", 1: "neg", 2: "floor", 3: "ceil", 4: "square", 5: "sqrt", 6: "rsqrt", 7: "exp", 8: "log", 9: "sin",
    10: "cos", 11: "tan", 12: "asin", 13: "acos", 14: "atan", 15: "reciprocal", 16: "log1p", 18: "acosh", 19: "sinh",
    20: "asinh", 21: "atanh", 22: "sign", 23: "round", 24: "cosh", 25: "erf", 28: "expm1", 29: "sigmoid", 30: "tanh",
    31: "hard_swish", 32: "gelu", 33: "gelu", 34: "swish",
}  # fmt: skip
REDUCTIONS: dict[int, str] = {
    0: "reduce_sum", 3: "reduce_mean", 4: "reduce_max", 5: "reduce_min", 6: "reduce_prod",
}  # fmt: skip
RESIZES: dict[int, str] = {1: "nearest", 2: "linear", 3: "cubic", 4: "nearest"}

# number of a type of elements -> ours
DTYPES: dict[int, str] = {
    1: "fp32", 2: "fp32", 3: "int32", 4: "int8", 5: "int16", 6: "int8", 9: "int64", 10: "bool", 14: "bf16", 19: "fp16",
}  # fmt: skip
