"""Makes the PyTorch files of this folder: a small CNN for 8x8 digits trained with fake quantization and exported as QDQ.

    apt-get install python3-torch; pip install onnx onnxruntime==1.23.2 scikit-learn numpy; python pytorch_qat.py .

Made with PyTorch 1.13 (Debian 12). `fbgemm`: 7-bit activations (0..127), weights per channel; `qnnpack`: 8-bit activations, weights per tensor.
"""
import sys
from pathlib import Path

import numpy as np
import torch
import torch.ao.quantization as q
from torch import nn
from torch.ao.quantization import quantize_fx

torch.manual_seed(7)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU())
        self.pointwise = nn.Sequential(nn.Conv2d(16, 32, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.left = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32))
        self.relu = nn.ReLU()
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x):
        x = self.pool(self.pointwise(self.depthwise(self.stem(x))))
        x = self.relu(self.left(x))
        return self.head(torch.flatten(x, 1))


def main(out):
    data = np.load(out / "digits8.npz")
    x = torch.from_numpy(data["x"]).float()
    y = torch.from_numpy(data["labels"]).long()
    train, test = slice(400, None), slice(0, 400)
    results = {"x": x[test].numpy(), "labels": y[test].numpy().astype(np.uint8)}
    for engine in ("fbgemm", "qnnpack"):
        torch.manual_seed(7)
        config = q.get_default_qat_qconfig(engine, version=0)  # what the exporter knows
        net = quantize_fx.prepare_qat_fx(Net().train(), q.QConfigMapping().set_global(config), (x[:1],))
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for epoch in range(12):
            if epoch == 10:
                net.apply(torch.ao.quantization.disable_observer)
                net.apply(torch.nn.intrinsic.qat.freeze_bn_stats)
            order = torch.randperm(len(x[train])) + 400
            for batch in order.split(64):
                loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        net.apply(torch.ao.quantization.disable_observer)
        net.eval()
        path = out / f"pytorch_qat-{engine}.onnx"
        torch.onnx.export(net, x[:1], str(path), opset_version=13, input_names=["image"], output_names=["logits"],
                          dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, do_constant_folding=True)
        with torch.no_grad():
            logits = net(x[test])
        print(engine, path.stat().st_size, "accuracy of PyTorch", (logits.argmax(1) == y[test]).float().mean().item())
    np.savez_compressed(out / "pytorch_qat-inputs.npz", **results)


main(Path(sys.argv[1]))
