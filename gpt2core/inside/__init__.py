"""Look inside: recordings of the forward pass, and functions on them.

``recorder`` records ``model.py`` line by line. ``recording`` keeps what the views need of a
pass, and runs single layers again. ``lens``, ``attribution``, ``heads`` and ``funnel`` are pure
functions on that.

Invariant: nothing here imports engine, store or tokenizer.
"""
