// Chips and text are two views of the same tokens: hovering, focusing or selecting one
// highlights the other.
import { byId, charactersOf, chipAt, make, unitsOf } from "./dom.js";
import { state } from "./state.js";

export function start() {
  const prompt = byId("prompt");
  document.addEventListener("selectionchange", () => {
    if (!state.owner || document.activeElement === prompt) highlightSelection();
  });
  document.addEventListener("pointerover", ({ target }) => {
    const chip = chipAt(target);
    if (chip) return highlightChip(chip);
    if (byId("card").contains(target)) return;
    highlightSelection();
    const span = target.closest?.("#text [data-first]");
    if (span && getSelection().isCollapsed) {
      highlightResult(Number(span.dataset.first), Number(span.dataset.last));
    }
  });
  document.addEventListener("focusin", ({ target }) => {
    const chip = chipAt(target);
    if (chip) highlightChip(chip);
    else if (!state.pinned && !byId("card").contains(target)) clearHighlight();
  });
  prompt.addEventListener("input", clearHighlight);
  prompt.addEventListener("scroll", () => {
    byId("mirror").scrollTop = prompt.scrollTop;
  });
}

function mark(element, highlighted) {
  element.classList.toggle("lit", highlighted);
}

/** Highlight the tokens `first` to `last` of prompt and continuation. */
function highlightResult(first, last) {
  for (const chip of byId("strip").querySelectorAll("[data-index]")) {
    mark(chip, chip.dataset.index >= first && chip.dataset.index <= last);
  }
  highlightText(first, last);
}

function highlightText(first, last) {
  for (const span of byId("text").querySelectorAll("[data-first]")) {
    mark(span, Number(span.dataset.first) <= last && Number(span.dataset.last) >= first);
  }
}

function highlightPromptChips(start, end) {
  for (const chip of document.querySelectorAll("#prompt-strip [data-index]")) {
    mark(chip, chip.dataset.start < end && chip.dataset.end > start);
  }
}

/** Highlight the characters `start` to `end` of the prompt, behind the text area. */
function highlightPrompt(start, end) {
  highlightPromptChips(start, end);
  const { value, scrollTop } = byId("prompt");
  const from = unitsOf(value, start);
  const to = unitsOf(value, end);
  const marked = make("mark", { textContent: value.slice(from, to) });
  byId("mirror").replaceChildren(value.slice(0, from), marked, value.slice(to), "\n");
  byId("mirror").scrollTop = scrollTop;
}

function clearHighlight() {
  highlightResult(1, 0);
  highlightPromptChips(0, 0);
  byId("mirror").replaceChildren();
}

function highlightChip(chip) {
  clearHighlight();
  if (!byId("strip").contains(chip)) {
    highlightPrompt(Number(chip.dataset.start), Number(chip.dataset.end));
    return;
  }
  const index = Number(chip.dataset.index);
  highlightResult(index, index);
  // A character that several tokens share may have come out before the last of them.
  const group = chip.closest(".group") ?? chip.parentElement;
  const first = Number(group.querySelector(".chip").dataset.index);
  highlightText(first, index);
}

/** What is selected stays highlighted while nothing else is pointed at. */
function highlightSelection() {
  const prompt = byId("prompt");
  clearHighlight();
  if (document.activeElement === prompt) {
    const { value, selectionStart, selectionEnd } = prompt;
    if (selectionStart === selectionEnd) return;
    highlightPromptChips(charactersOf(value, selectionStart), charactersOf(value, selectionEnd));
    return;
  }
  const selection = getSelection();
  if (selection.isCollapsed || !selection.containsNode(byId("text"), true)) return;
  const spans = [...byId("text").querySelectorAll("[data-first]")];
  const selected = spans.filter((span) => selection.containsNode(span, true));
  if (!selected.length) return;
  highlightResult(Number(selected[0].dataset.first), Number(selected.at(-1).dataset.last));
}
