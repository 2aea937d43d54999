"""Silero's network with its convolutions written as matrix products: the same numbers in less than half the time.

The network sees 32 ms at a time, and its convolutions over so few positions cost ONNX Runtime four fifths of the time.
Over positions gathered side by side each of them is one product of matrices for all frames of a call.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from subtone.speech.onnx_file import Node, Shape, read_model, write_model

_SEEN = 576  # samples that the network sees for a frame
_PAD = 64  # of their reflection behind them
_WINDOW, _HOP, _BINS = 256, 128, 129
_POSITIONS = 4  # windows a frame
_DIM = 128


def as_matrices(model: bytes) -> bytes | None:
    """Return a model with the inputs and outputs of Silero's 16 kHz sequence model, made of its weights.

    None when the file is not built as that of silero-vad 6.2 is. Whether it computes the same is for the caller to try.
    """
    try:
        weights, nodes = read_model(model)
        constants = _constants(weights, nodes)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError):
        return None
    inputs: dict[str, Shape] = {"input": ("frames", _SEEN), "h": (1, 1, _DIM), "c": (1, 1, _DIM)}
    outputs: dict[str, Shape] = {"speech_probs": ("frames",), "hn": (1, 1, _DIM), "cn": (1, 1, _DIM)}
    return write_model(_nodes(), constants, inputs, outputs)


def _nodes() -> list[Node]:
    def relu(source: str, target: str) -> Node:
        return Node("Relu", [source], [target])

    return [
        # Short-time spectrum, (4 frames, 129): reflected edge and windows are gathered at once.
        Node("Gather", ["input", "windows"], ["cut"], {"axis": 1}),  # (frames, 4, 256)
        Node("Reshape", ["cut", "as_windows"], ["cut_flat"]),
        Node("MatMul", ["cut_flat", "basis"], ["spectrum"]),
        Node("Split", ["spectrum", "bins"], ["real", "imaginary"], {"axis": 1}),
        Node("Mul", ["real", "real"], ["real_squared"]),
        Node("Mul", ["imaginary", "imaginary"], ["imaginary_squared"]),
        Node("Add", ["real_squared", "imaginary_squared"], ["power"]),
        Node("Sqrt", ["power"], ["magnitude_flat"]),
        # Four convolutions of width 3: over 4 positions, then 2, then 1, each padded by one position.
        Node("Reshape", ["magnitude_flat", "as_bins"], ["magnitude"]),
        Node("Pad", ["magnitude", "both_ends"], ["padded_1"]),
        Node("Gather", ["padded_1", "every"], ["taps_1"], {"axis": 1}),  # (frames, 4, 3, 129)
        Node("Reshape", ["taps_1", "as_taps_1"], ["flat_1"]),
        Node("Gemm", ["flat_1", "weight_1", "bias_1"], ["sum_1"]),
        relu("sum_1", "out_1"),
        Node("Reshape", ["out_1", "as_out_1"], ["rows_1"]),
        Node("Pad", ["rows_1", "front_end"], ["padded_2"]),
        Node("Gather", ["padded_2", "every_second"], ["taps_2"], {"axis": 1}),  # (frames, 2, 3, 128)
        Node("Reshape", ["taps_2", "as_taps_2"], ["flat_2"]),
        Node("Gemm", ["flat_2", "weight_2", "bias_2"], ["sum_2"]),
        relu("sum_2", "out_2"),
        Node("Reshape", ["out_2", "as_rows"], ["flat_3"]),  # (frames, 2 * 64)
        Node("Gemm", ["flat_3", "weight_3", "bias_3"], ["sum_3"]),
        relu("sum_3", "out_3"),
        Node("Gemm", ["out_3", "weight_4", "bias_4"], ["sum_4"]),
        relu("sum_4", "out_4"),
        # The recurrent layer, and one logit a frame.
        Node("Reshape", ["out_4", "as_steps"], ["steps"]),
        Node(
            "LSTM",
            ["steps", "lstm_input", "lstm_state", "lstm_bias", "", "h", "c"],
            ["states", "hn", "cn"],
            {"hidden_size": _DIM},
        ),
        Node("Reshape", ["states", "as_rows"], ["state_rows"]),
        relu("state_rows", "heard"),
        Node("Gemm", ["heard", "weight_5", "bias_5"], ["logits"]),
        Node("Sigmoid", ["logits"], ["probabilities"]),
        Node("Reshape", ["probabilities", "as_scores"], ["speech_probs"]),
    ]


def _constants(
    weights: dict[str, npt.NDArray[np.float32]], nodes: list[Node]
) -> dict[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]]:
    """Return all constants of `_nodes`; raises where a weight is not there or has another shape."""
    (lstm,) = (node for node in nodes if node.operator == "LSTM")
    names = {
        "basis": ("stft.forward_basis_buffer", (2 * _BINS, 1, _WINDOW)),
        "weight_1": ("encoder.0.weight", (128, _BINS, 3)),
        "weight_2": ("encoder.1.weight", (64, 128, 3)),
        "weight_3": ("encoder.2.weight", (64, 64, 3)),
        "weight_4": ("encoder.3.weight", (_DIM, 64, 3)),
        "weight_5": ("output.weight", (1, _DIM, 1)),
        "bias_1": ("encoder.0.bias", (128,)),
        "bias_2": ("encoder.1.bias", (64,)),
        "bias_3": ("encoder.2.bias", (64,)),
        "bias_4": ("encoder.3.bias", (_DIM,)),
        "bias_5": ("output.bias", (1,)),
        "lstm_input": (lstm.inputs[1], (1, 4 * _DIM, _DIM)),
        "lstm_state": (lstm.inputs[2], (1, 4 * _DIM, _DIM)),
        "lstm_bias": (lstm.inputs[3], (1, 8 * _DIM)),
    }
    found = {ours: weights[theirs] for ours, (theirs, _) in names.items()}
    for ours, (theirs, shape) in names.items():
        if found[ours].shape != shape:
            raise ValueError(f"{theirs} has the shape {found[ours].shape}")
    # Of the third convolution's one position the first tap falls on padding, of the fourth's the outer two do.
    found["weight_3"], found["weight_4"] = found["weight_3"][:, :, 1:], found["weight_4"][:, :, 1:2]
    matrices = {
        name: np.ascontiguousarray(values.transpose(2, 1, 0)).reshape(-1, len(values))  # (taps * in, out)
        for name, values in found.items()
        if name.startswith("weight")
    }
    at = np.arange(_SEEN + _PAD)
    at = np.where(at < _SEEN, at, 2 * (_SEEN - 1) - at)  # reflected behind the last sample
    whole: dict[str, list[int]] = {
        "bins": [_BINS, _BINS],
        "both_ends": [0, 1, 0, 0, 1, 0],
        "front_end": [0, 1, 0, 0, 0, 0],
        "as_windows": [-1, _WINDOW],
        "as_bins": [-1, _POSITIONS, _BINS],
        "as_taps_1": [-1, 3 * _BINS],
        "as_out_1": [-1, _POSITIONS, 128],
        "as_taps_2": [-1, 3 * 128],
        "as_rows": [-1, _DIM],
        "as_steps": [-1, 1, _DIM],
        "as_scores": [-1],
    }
    return {
        **found,
        **matrices,
        "basis": np.ascontiguousarray(found["basis"][:, 0].T),
        "windows": at[_HOP * np.arange(_POSITIONS)[:, None] + np.arange(_WINDOW)],
        "every": np.arange(_POSITIONS)[:, None] + np.arange(3),
        "every_second": np.arange(0, _POSITIONS, 2)[:, None] + np.arange(3),
        **{name: np.array(values, dtype=np.int64) for name, values in whole.items()},
    }
