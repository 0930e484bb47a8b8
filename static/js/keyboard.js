// The keyboard: arrows walk from chip to chip, Ctrl+Enter generates, Ctrl+Z undoes, Escape
// closes what is open first and then stops the text.
import { byId } from "./dom.js";
import { closeDetails, isOpen } from "./details.js";
import { state } from "./state.js";
import { stop } from "./stream.js";
import { moveTabStop, visibleChips } from "./strip.js";
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
  byId("form").requestSubmit();
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
  const chip = document.activeElement?.closest(".strip .chip");
  const find = walks[event.key];
  if (!chip || !find) return;
  event.preventDefault();
  const chips = visibleChips(chip.closest(".strip"));
  const target = find(chips, chips.indexOf(chip));
  if (!target) return;
  moveTabStop(target);
  target.focus();
}

/** Key -> (chips of the strip, place of the focused one) -> the chip to go to. */
const walks = {
  ArrowRight: (chips, at) => chips[at + 1],
  ArrowLeft: (chips, at) => chips[at - 1],
  ArrowDown: (chips, at) => inNextRow(chips, at, 1),
  ArrowUp: (chips, at) => inNextRow(chips, at, -1),
  Home: (chips) => chips[0],
  End: (chips) => chips.at(-1),
};

/** The nearest chip in the row below (`step` 1) or above (-1), if there is one. */
function inNextRow(chips, at, step) {
  const bottom = (chip) => chip.closest("li").getBoundingClientRect().bottom; // one for a row
  const left = (chip) => chip.getBoundingClientRect().left;
  const from = bottom(chips[at]);
  const beyond = chips.filter((chip) => step * (bottom(chip) - from) > 1);
  if (!beyond.length) return null;
  const row = bottom(step > 0 ? beyond[0] : beyond.at(-1));
  const distance = (chip) => Math.abs(left(chip) - left(chips[at]));
  const inRow = beyond.filter((chip) => Math.abs(bottom(chip) - row) <= 1);
  return inRow.sort((a, b) => distance(a) - distance(b))[0];
}
