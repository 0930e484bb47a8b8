"""The inside views: a recorded pass of the model over one text, as pages show it.

Between ``gpt2core.inside``, which records and computes, and ``webapp.routes.inside_pages``, which
answers requests. Modules from the bottom up: ``query`` reads the fields, ``recordings`` holds
the recorded passes, ``labels`` and ``window`` name the tokens and choose which are drawn,
``source`` puts values beside the lines that made them, ``view`` is what all templates get.
"""
