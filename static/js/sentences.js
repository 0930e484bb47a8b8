// For people who prefer reduced motion, a text appears sentence by sentence.
import { byId, resultChips } from "./dom.js";

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const END_OF_SENTENCE = /[.!?…\n]["”’)]*\s*$/;

/** Hide what was written after the last whole sentence; show it all at the end. */
export function holdSentence(isEnd) {
  if (!reducedMotion.matches) return;
  const spans = [...byId("continuation").children];
  const last = spans.findLast((span) => END_OF_SENTENCE.test(span.textContent))?.dataset.last ?? -1;
  const isHeld = (index) => !isEnd && Number(index) > Number(last);
  for (const span of spans) span.classList.toggle("held", isHeld(span.dataset.last));
  for (const chip of resultChips(".generated")) {
    chip.closest("li").classList.toggle("held", isHeld(chip.dataset.index));
  }
}
