"""Makes the bundles that `edge` runs: Qwen3.5 checkpoints to quantised ONNX, and the proof that they agree."""
