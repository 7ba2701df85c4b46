"""What JAX computes, written as an ONNX graph; many graphs over one file of weights."""
