"""All steps, in order."""

from webapp.inside.steps.attention import MASK, QKV, SCORES, SOFTMAX
from webapp.inside.steps.embedding import EMBEDDING
from webapp.inside.steps.layers import FFN, LAYERS
from webapp.inside.steps.mixing import MIX_STEP, PROJECTION, STREAM
from webapp.inside.steps.norm import FINAL_NORM, NORM
from webapp.inside.steps.output import CUTS, DRAW, LOGITS
from webapp.inside.steps.step import Step
from webapp.inside.steps.text import BYTES, IDS, MERGES

STEPS: tuple[Step, ...] = (
    BYTES,
    MERGES,
    IDS,
    EMBEDDING,
    NORM,
    QKV,
    SCORES,
    MASK,
    SOFTMAX,
    MIX_STEP,
    PROJECTION,
    STREAM,
    FFN,
    LAYERS,
    FINAL_NORM,
    LOGITS,
    CUTS,
    DRAW,
)
