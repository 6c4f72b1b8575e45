"""A Qwen3.5 checkpoint as the source of a conversion: where it lies, what it says, and its weights one at a time."""
