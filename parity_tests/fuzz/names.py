"""The targets' names, known without importing what they read with; a test holds them to the table."""

NAMES = (
    "prototxt", "solver", "caffemodel", "mean", "h5", "solverstate", "solverstate-h5", "safetensors", "pth", "json",
    "archive", "submission", "picture", "lmdb", "leveldb", "matlab", "lists", "drawings", "recipe", "recording", "net",
    "fast", "export", "onnx", "predict", "inspect",
)  # fmt: skip
