"""What ONNX Runtime computes with the PyTorch files, every Q and DQ as it is written: python pytorch_outputs.py ."""
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

out = Path(sys.argv[1])
x = np.load(out / "pytorch_qat-inputs.npz")["x"]
results = {}
for engine in ("fbgemm", "qnnpack"):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(out / f"pytorch_qat-{engine}.onnx"), options)
    results[engine] = session.run(None, {"image": x})[0]
    print(engine, results[engine].argmax(1)[:8])
np.savez_compressed(out / "pytorch_qat-outputs.npz", **results)
