"""Look inside: recordings of the forward pass, and functions on them.

``recorder`` records ``model.py`` line by line. ``recording`` keeps what the views need of a
pass, and runs single layers again. ``lens``, ``attribution``, ``heads`` and ``funnel`` are pure
functions on that. ``interventions`` removes parts of the model and carries states from one
text to another. ``document`` returns JSON, ``report`` text, and ``command`` is the part of the
command line.

Invariant: except for ``command``, nothing here imports engine, store or tokenizer.
"""
