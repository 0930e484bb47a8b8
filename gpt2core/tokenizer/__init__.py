"""GPT-2's byte-level BPE: text to token ids and back."""
