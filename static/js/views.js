// How tokens are shown; the choice is remembered where the browser allows it. In the text, its
// pieces are reached and named as chips are in the other views.
import { byId, chipAt, form, isInText, make, prompt, stored } from "./dom.js";
import { CHANGED } from "./state.js";
import { moveTabStop } from "./strip.js";

const PIECES = "#prompt-running [data-first], #text [data-first]";

export function start() {
  const saved = stored(() => localStorage.getItem("view"));
  for (const radio of document.querySelectorAll('input[name="view"]')) {
    if (radio.value === saved) radio.checked = true;
    radio.addEventListener("change", () => {
      show(radio.value);
      stored(() => localStorage.setItem("view", radio.value));
    });
  }
  document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx.target.id === "tokens") drawRunning();
    nameNewPieces();
  });
  form.addEventListener(CHANGED, namePieces);
  show(saved ?? "piece");
}

function show(view) {
  document.documentElement.dataset.view = view;
  drawRunning();
  namePieces();
}

/** Make buttons of the pieces of text, or text of the buttons. */
function namePieces() {
  for (const piece of document.querySelectorAll(PIECES)) {
    for (const name of ["role", "tabindex", "aria-label"]) piece.removeAttribute(name);
  }
  nameNewPieces();
}

function nameNewPieces() {
  if (!isInText()) return;
  for (const piece of document.querySelectorAll(`:is(${PIECES}):not([role])`)) {
    const chip = chipAt(piece);
    if (!chip) continue;
    const n = piece.dataset.last - piece.dataset.first + 1;
    piece.role = "button";
    piece.ariaLabel = n === 1 ? chip.ariaLabel : `${piece.textContent}, ${n} tokens`;
    piece.tabIndex = -1;
    const box = piece.parentElement.closest(".running, #text");
    if (!box.querySelector('[tabindex="0"]')) moveTabStop(piece);
  }
}

/** The prompt as running text with coloured tokens. The text of the result is always there. */
function drawRunning() {
  if (!isInText()) return;
  const characters = Array.from(prompt.value);
  const items = [...(byId("prompt-strip")?.children ?? [])];
  byId("prompt-running")?.replaceChildren(...items.map((item) => running(item, characters)));
}

function running(item, characters) {
  const chips = item.querySelectorAll(".chip");
  const { index, start: first } = chips[0].dataset;
  const { end } = chips[chips.length - 1].dataset;
  const span = make("span", { textContent: characters.slice(first, end).join("") });
  span.className = `c${chips[0].className.match(/\bc(\d)\b/)[1]}`;
  span.dataset.first = index;
  span.dataset.last = chips[chips.length - 1].dataset.index;
  return span;
}
