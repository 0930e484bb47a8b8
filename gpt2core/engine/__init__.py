"""The engine and the scheduler: many sequences decoded together over a KV cache."""
