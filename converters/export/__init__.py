"""Ways out: safetensors."""
