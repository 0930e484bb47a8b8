// The keyboard: arrows walk from chip to chip, Ctrl+Enter generates, Ctrl+Z undoes, Escape
// closes what is open first and then stops the text.
import { form, TOKEN } from "./dom.js";
import { closeDetails, isOpen } from "./details.js";
import { state } from "./state.js";
import { stop } from "./stream.js";
import { moveTabStop, neighbours } from "./strip.js";
import { undo } from "./text.js";

export function start() {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return; // the key is for the input method
    const withControl = event.ctrlKey || event.metaKey;
    if (event.key === "Escape") onEscape();
    else if (event.key === "Enter" && withControl) submit(event);
    else if (event.key === "z" && withControl) onUndo(event);
    else onWalk(event);
  });
}

function submit(event) {
  event.preventDefault();
  form.requestSubmit();
}

/** In a field the browser undoes what was typed there. */
function onUndo(event) {
  if (event.target.matches("input, textarea") || !state.history.length) return;
  event.preventDefault();
  undo();
}

function onEscape() {
  const menu = document.querySelector(".menu[open]");
  if (menu) {
    menu.open = false;
    menu.firstElementChild.focus();
  } else if (isOpen()) {
    closeDetails();
  } else {
    stop();
  }
}

function onWalk(event) {
  const token = document.activeElement?.closest(TOKEN);
  if (!token) return;
  if (token.matches("span") && ["Enter", " "].includes(event.key)) {
    event.preventDefault();
    token.click(); // as a button does by itself
  }
  const find = walks[event.key];
  if (!find) return;
  event.preventDefault();
  const tokens = neighbours(token);
  const target = find(tokens, tokens.indexOf(token));
  if (!target) return;
  moveTabStop(target);
  target.focus();
}

/** Key -> (tokens side by side, place of the focused one) -> the token to go to. */
const walks = {
  ArrowRight: (chips, at) => chips[at + 1],
  ArrowLeft: (chips, at) => chips[at - 1],
  ArrowDown: (chips, at) => inNextRow(chips, at, 1),
  ArrowUp: (chips, at) => inNextRow(chips, at, -1),
  Home: (chips) => chips[0],
  End: (chips) => chips.at(-1),
};

/** The nearest token in the row below (`step` 1) or above (-1), if there is one. */
function inNextRow(chips, at, step) {
  // One for a row: that of the bracket, or of the first line of a piece of text.
  const bottom = (chip) => (chip.closest("li") ?? chip).getClientRects()[0].bottom;
  const left = (chip) => chip.getClientRects()[0].left;
  const from = bottom(chips[at]);
  const beyond = chips.filter((chip) => step * (bottom(chip) - from) > 1);
  if (!beyond.length) return null;
  const row = bottom(step > 0 ? beyond[0] : beyond.at(-1));
  const distance = (chip) => Math.abs(left(chip) - left(chips[at]));
  const inRow = beyond.filter((chip) => Math.abs(bottom(chip) - row) <= 1);
  return inRow.sort((a, b) => distance(a) - distance(b))[0];
}
