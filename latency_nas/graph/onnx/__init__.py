"""ONNX models: read, and written for engines that take them."""
