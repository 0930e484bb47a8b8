"""All groups of the gallery in the order of the page."""

from webapp.gallery.scripts import EMOJI, SCRIPTS
from webapp.gallery.signs import CODE, GLITCH, NUMBERS, SPECIAL
from webapp.gallery.words import LONG, SPACES, THREE, TRAILING, TYPOS

GROUPS = (
    *(SPACES, TRAILING, NUMBERS, CODE, SCRIPTS, EMOJI),
    *(TYPOS, LONG, THREE, GLITCH, SPECIAL),
)
