"""Models for other programs: ONNX, and packages of bioimage.io."""
