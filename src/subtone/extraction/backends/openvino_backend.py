"""OpenVINO as an engine for CPUs: bf16 and int8 are faster in it than in PyTorch.

Network and front end stay apart as in `Upstream`: the front end runs in PyTorch, float32; `Upstream.core` is
converted, once an opening, for clips of any length.
"""

from __future__ import annotations

import queue
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from subtone.errors import UsageError
from subtone.extraction.backends.base import Backend, BackendError, cores, paired
from subtone.extraction.options import Precision
from subtone.upstreams import Survey, Upstream, UpstreamError, Wave

#: Neighbouring activations that share a scale in int8. Scales are taken at run time, a frame at a time: with scales
#: fixed on a calibration set, quiet stretches of speech drown. Convolutions of a randomly weighted wav2vec2-base:
#: cosine down to 0.7 with fixed scales, 0.9998 with these.
_GROUP = 128
#: Shorter clips, in frames, go through PyTorch. What OpenVINO 2026.4 prepares for a clip of one frame it takes up
#: again for longer ones, whose frames are then wrong, depending on the order of clips.
_FEWEST = 8
_PROBE_S = 0.6  # of the clip that the network is traced with; any clip of a few frames gives the same network


class OpenVinoBackend(Backend):
    """One clip a call and a stream a core.

    In ``"int8"``, weights of linear layers have 8 bits and a scale an output, their inputs 8 bits and a scale for each
    128 of a frame; all else is bf16 where the CPU has it.

    Parameters
    ----------
    upstream
        On a CPU, in float32.
    precision
        ``"fp32"``, ``"bf16"`` or ``"int8"``.

    Raises
    ------
    UsageError
        If OpenVINO is not installed, or the precision is none of these.
    BackendError
        If the upstream has no network, or one that cannot be converted, or the CPU lacks the precision.
    """

    name = "openvino"
    batch_s = 0.0

    def __init__(self, upstream: Upstream, precision: Precision) -> None:
        openvino = _openvino()
        self.upstream, self.precision = upstream, precision
        self.streams = cores()
        if precision == "fp16":
            raise UsageError("precision fp16 is for CUDA; on a CPU choose bf16 or int8")
        if upstream.device.type != "cpu":
            raise UsageError(f"backend openvino computes on the CPU; this upstream is on {upstream.device}")
        engine = openvino.Core()
        has_bf16 = "BF16" in engine.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not has_bf16:
            raise BackendError(
                "this CPU has no bf16 arithmetic, which makes it slower than fp32; choose fp32 or int8"
            )
        core = upstream.core()
        if core is None:
            raise BackendError(
                f"backend openvino: {upstream.name} has no network to run; choose backend torch"
            )
        self._core = core
        # The decoder owns constants that the model and what is compiled from it only point to.
        model, self._decoder = _converted(upstream, core)
        if precision == "int8":
            _quantise(model)
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" or not has_bf16 else "bf16",
            # Without this the engine quantises activations of what has quantised weights by its own choice.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP if precision == "int8" else 0,
            "NUM_STREAMS": self.streams,
            "INFERENCE_NUM_THREADS": self.streams,
            "ENABLE_CPU_PINNING": False,  # others may be at work on the machine
        }
        compiled = engine.compile_model(model, "CPU", settings)
        del model  # and with it the weights as converted
        self._tensor = openvino.Tensor
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.streams):
            self._free.put(compiled.create_infer_request())

    def encode(self, waves: Sequence[Wave], surveys: Sequence[Survey | None] | None = None) -> list[Tensor]:
        """Return ``(layers, frames, dim)`` of each clip; see `Backend.encode`."""
        self._check_open()
        return [self._one(wave, survey) for wave, survey in paired(waves, surveys)]

    def _one(self, wave: Wave, survey: Survey | None) -> Tensor:
        inputs = self.upstream.front(wave, survey)[None]  # (1, channels, inputs)
        if self.upstream.grid.num_frames(len(wave)) < _FEWEST:
            with torch.inference_mode():
                frames: Tensor = self._core(inputs)
                return frames
        request = self._free.get()
        try:
            # Asynchronous, so that it runs on one of the engine's own threads, which hold to a stream each.
            request.start_async({0: self._tensor(inputs.numpy(), shared_memory=True)}, share_inputs=True)
            request.wait()
            # The request's memory is the next clip's.
            return torch.from_numpy(request.get_output_tensor(0).data.copy())  # (layers, frames, dim)
        finally:
            self._free.put(request)

    def versions(self) -> dict[str, str]:
        """Return the releases of torch, for the front end, and OpenVINO."""
        return {"openvino": version("openvino"), "torch": version("torch")}

    def config(self) -> dict[str, Any]:
        """Return what the frames depend on; see `Backend.config`."""
        return super().config() | ({"activations_a_scale": _GROUP} if self.precision == "int8" else {})

    def close(self) -> None:
        """Give back the engine's copy of the weights."""
        super().close()
        with suppress(queue.Empty):
            while True:
                self._free.get_nowait()


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise UsageError(
            "backend openvino is not installed; pip install 'subtone[openvino]', or choose backend torch"
        ) from None
    return openvino


def _converted(upstream: Upstream, core: nn.Module) -> tuple[Any, Any]:
    """Return the network as an OpenVINO model of one input, ``(1, channels, any)``, and who owns its constants."""
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    probe = upstream.front(torch.linspace(-0.1, 0.1, int(_PROBE_S * upstream.grid.sample_rate_hz)).sin())[
        None
    ]
    # Not by openvino.convert_model, which reports each call to its makers over the network.
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing's remarks on code that is not ours
            decoder = TorchScriptPythonDecoder(_Inference(core), example_input=(probe,))
            frontend = FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(decoder))
        model.reshape({0: openvino.PartialShape([1, probe.shape[1], -1])})
        if len(model.outputs) != 1:
            raise RuntimeError(f"{len(model.outputs)} outputs")
    except UpstreamError:
        raise
    except Exception as error:  # whatever a network's code provokes inside the tracer and the converter
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackendError(
            f"backend openvino cannot run {upstream.name} ({type(upstream).__name__}): {first}; choose backend torch"
        ) from None
    finally:
        logging.set_verbosity(verbosity)
    return model, decoder


class _Inference(nn.Module):
    """A network for tracing, in evaluation mode; without it, tracing would find the hooks of its parts alone."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core
        self.training = False

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.core(inputs)
        return found


def _quantise(model: Any) -> None:
    """Give the linear layers of a model weights of 8 bits, symmetric, a scale an output; in place."""
    import numpy as np
    from openvino import opset13

    for layer in model.get_ordered_ops():
        if layer.get_type_name() != "MatMul":
            continue
        constant = layer.input_value(1).get_node()
        if constant.get_type_name() != "Constant" or len(constant.shape) != 2:
            continue
        inputs_axis = 1 if layer.get_attributes()["transpose_b"] else 0
        weight = np.asarray(constant.data, np.float32)
        scale = np.abs(weight).max(axis=inputs_axis, keepdims=True) / 127
        scale[scale == 0] = 1
        rounded = opset13.constant(np.rint(weight / scale).astype(np.int8))
        restored = opset13.multiply(opset13.convert(rounded, "f32"), opset13.constant(scale))
        layer.input(1).replace_source_output(restored.output(0))
