"""The eighteen steps from a text to its next token.

``step`` says what a step is; ``text``, ``embedding``, ``attention``, ``stream`` and
``output`` each hold some; ``registry`` has them in order. A step is a pure function of a
view: nothing here touches a request.
"""
