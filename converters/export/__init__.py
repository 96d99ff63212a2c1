"""Ways out: safetensors, Caffe, Python source, ONNX, torch.export, and the check that they compute the same."""
