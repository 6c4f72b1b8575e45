"""Builds the graphs of a bundle operator by operator, from operators that onnxruntime's CPU provider runs well."""
