"""Look inside: recordings of the forward pass, and functions on them.

``recorder`` records ``model.py`` line by line. ``recording`` keeps what the views need of a
pass, and runs single layers again.

Invariant: nothing here imports engine, store or tokenizer.
"""
