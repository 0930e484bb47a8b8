"""The gallery: short texts, their tokens, and sentences that are true of GPT-2's tokenizer.

``entry`` has what an entry is, ``words``, ``signs`` and ``scripts`` the entries, ``groups`` their
order on the page.
"""
