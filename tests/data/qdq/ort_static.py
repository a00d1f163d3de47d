"""Makes the ONNX Runtime files of this folder: static quantization in QDQ format, and what ONNX Runtime computes with them.

    pip install onnxruntime==1.23.2 onnx numpy sympy; python ort_static.py ../conformance .
"""
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

SCHEMES = {
    "pc_u8": dict(per_channel=True, activation_type=QuantType.QUInt8),
    "pc_s8": dict(per_channel=True, activation_type=QuantType.QInt8),
    "pt_u8": dict(per_channel=False, activation_type=QuantType.QUInt8),
    "pt_s8": dict(per_channel=False, activation_type=QuantType.QInt8),
    "pc_sym": dict(per_channel=True, activation_type=QuantType.QInt8, extra_options={"ActivationSymmetric": True}),
}
CASES = {
    "mnist_cnn": ["pc_u8", "pc_sym"],
    "lenet5": list(SCHEMES),
    "resnet8": list(SCHEMES),
    "ds_cnn_kws": list(SCHEMES),
    "mobilenet_v1_025": list(SCHEMES),
}


class Samples(CalibrationDataReader):
    def __init__(self, name, samples):
        self.rest = iter([{name: sample[None]} for sample in samples])

    def get_next(self):
        return next(self.rest, None)


def floats(case):
    """200 test inputs as the float network takes them."""
    data = np.load(case / "inputs.npz")
    if "x" in data:
        return data["x"][:200]
    formula = json.loads((case / "case.json").read_text())["u8_to_float"]
    mean, deviation = re.search(r"- ([\d.]+)\) / ([\d.]+)", formula).groups()
    pixels = data["x_u8"][:200, None].astype(np.float32)
    return (pixels / np.float32(255) - np.float32(mean)) / np.float32(deviation)


def run(path, x):
    """Every Q and DQ as it is written: fused kernels of some processors saturate in 16 bits."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: sample[None]})[0] for sample in x])


def main(source, out):
    for name, schemes in CASES.items():
        case = source / name
        model = onnx.load(case / "model.onnx")
        x = floats(case)
        calib = np.load(case / "calib.npz")["samples"][:64]
        prepared = out / "prepared.onnx"
        quant_pre_process(str(case / "model.onnx"), str(prepared))
        outputs = {"float": run(case / "model.onnx", x)}
        for scheme in schemes:
            path = out / f"{name}-{scheme}.onnx"
            quantize_static(str(prepared), str(path), Samples(model.graph.input[0].name, calib),
                            quant_format=QuantFormat.QDQ, weight_type=QuantType.QInt8, **SCHEMES[scheme])
            outputs[scheme] = run(path, x)
            agree = np.mean(outputs[scheme].argmax(1) == outputs["float"].argmax(1))
            print(path.name, path.stat().st_size, f"agrees with float {agree:.3f}")
        prepared.unlink()
        np.savez_compressed(out / f"{name}-outputs.npz", **outputs)


main(Path(sys.argv[1]), Path(sys.argv[2]))
