"""Caffe's file formats, and nothing about FCN: bytes -> messages -> net and blobs -> PyTorch, and back."""
