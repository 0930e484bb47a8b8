// The chips of the text: the prompt's part is folded, one chip is reached with Tab.
import { byId, chipAt, form, resultChips, runningOf } from "./dom.js";
import { CHANGED } from "./state.js";

const BOX = ".strip, .running, #text";
let focused = null; // the chip that has, or last had, the focus

export function start() {
  byId("fold").addEventListener("click", () => {
    byId("strip").classList.toggle("folded");
    updateStrip();
  });
  byId("strip").classList.add("folded");
  document.addEventListener("focusin", ({ target }) => {
    focused = target.closest("#strip .chip");
  });
  form.addEventListener("htmx:after:swap", keepFocus);
  form.addEventListener(CHANGED, updateStrip);
  updateStrip();
}

/** A stream replaced the focused chip by a bracket: the focus moves to its successor. */
function keepFocus() {
  if (!focused || focused.isConnected || document.activeElement !== document.body) return;
  const chip = byId("strip").querySelector(`[data-index="${focused.dataset.index}"]`);
  if (!chip) return;
  moveTabStop(chip);
  chip.focus({ preventScroll: true });
}

/** After chips were added or removed: the count, the fold, the tab stop. */
export function updateStrip() {
  const strip = byId("strip");
  const nTokens = resultChips().length;
  const nPrompt = nTokens - resultChips(".generated").length;
  const folded = strip.classList.contains("folded");
  byId("total").textContent = `${nTokens} of ${byId("total").dataset.context} context`;
  const fold = byId("fold");
  fold.hidden = !nPrompt;
  fold.textContent = `${nPrompt} prompt token${nPrompt === 1 ? "" : "s"} ${folded ? "▸" : "▾"}`;
  fold.ariaExpanded = String(!folded);
  const chips = visibleChips(strip);
  if (chips.length && !chips.some((chip) => chip.tabIndex === 0)) moveTabStop(chips[0]);
}

/** The tokens that stand beside `token` and can be reached: chips that are not folded away, or text. */
export function neighbours(token) {
  const strip = token.closest(".strip");
  return strip ? visibleChips(strip).filter((chip) => chip.offsetParent) : runningOf(chipAt(token));
}

function visibleChips(strip) {
  return [...strip.querySelectorAll(strip.matches(".folded") ? ".generated" : ".chip")];
}

/** Make `token` the one among its neighbours that Tab reaches. */
export function moveTabStop(token) {
  for (const other of token.parentElement.closest(BOX).querySelectorAll('[tabindex="0"]')) {
    other.tabIndex = -1;
  }
  token.tabIndex = 0;
}
