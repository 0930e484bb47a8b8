"""The instruments of the inside views: all heads, the logit lens, attribution, one draw.

Each module computes what one page shows, from a view; ``webapp.routes.instruments`` answers
with its template. Invariant: every number comes from the recording through
``gpt2core.inside``.
"""
