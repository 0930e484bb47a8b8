"""Look inside: recordings of the forward pass, and functions on them.

``recorder`` records ``model.py`` line by line. ``recording`` keeps what the views need of a
pass, and runs single layers again. ``lens``, ``attribution``, ``heads`` and ``funnel`` are pure
functions on that. ``document`` makes JSON of it, ``report`` text, ``command`` a command.

Invariant: except for ``command``, nothing here imports engine, store or tokenizer.
"""
