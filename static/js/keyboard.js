// The keyboard: one chip of each strip is reached with Tab, arrows walk from chip to chip;
// Ctrl+Enter generates; Escape closes the card first and then stops the text.
import { byId, chipAt } from "./dom.js";
import { hideCard } from "./details.js";
import { stop } from "./stream.js";

export function start() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("keydown", onWalk);
}

function onKey(event) {
  if (event.isComposing) return; // the key is for the input method
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    byId("form").requestSubmit();
  } else if (event.key === "Escape") {
    if (byId("card").hidden) stop();
    else hideCard();
  }
}

function onWalk(event) {
  const chip = chipAt(document.activeElement);
  if (!chip || event.isComposing) return;
  const chips = [...chip.closest(".strip").querySelectorAll(".chip")];
  const find = walks[event.key];
  if (!find) return;
  event.preventDefault();
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

/** Make `chip` the one of its strip that Tab reaches. */
export function moveTabStop(chip) {
  for (const other of chip.closest(".strip").querySelectorAll('.chip[tabindex="0"]')) {
    other.tabIndex = -1;
  }
  chip.tabIndex = 0;
}

/** The nearest chip in the row below (`step` 1) or above (-1), if there is one. */
function inNextRow(chips, at, step) {
  const top = (chip) => chip.closest("li").getBoundingClientRect().top; // one for all of a row
  const left = (chip) => chip.getBoundingClientRect().left;
  const from = top(chips[at]);
  const beyond = chips.filter((chip) => step * (top(chip) - from) > 1);
  if (!beyond.length) return null;
  const row = top(step > 0 ? beyond[0] : beyond.at(-1));
  const distance = (chip) => Math.abs(left(chip) - left(chips[at]));
  const inRow = beyond.filter((chip) => Math.abs(top(chip) - row) <= 1);
  return inRow.sort((a, b) => distance(a) - distance(b))[0];
}
