// Chips and text are two views of the same tokens: hovering, focusing or selecting one
// highlights the other.
import { byId, charactersOf, chipAt, make, unitsOf } from "./dom.js";

export function start() {
  const prompt = byId("prompt");
  document.addEventListener("selectionchange", () => {
    if (!document.activeElement?.closest(".strip")) highlightSelection();
  });
  document.addEventListener("pointerover", ({ target }) => {
    const chip = chipAt(target);
    if (target.closest?.("#details")) return;
    highlightSelection();
    if (!chip || (!target.closest(".strip") && !getSelection().isCollapsed)) return;
    highlightChip(chip, !target.closest(".strip"));
  });
  document.addEventListener("focusin", ({ target }) => {
    const chip = target.closest(".strip .chip");
    if (chip) highlightChip(chip);
    else if (!target.closest("#details")) clearHighlight();
  });
  prompt.addEventListener("input", clearHighlight);
  prompt.addEventListener("scroll", () => {
    byId("mirror").scrollTop = prompt.scrollTop;
  });
}

function mark(element, highlighted) {
  element.classList.toggle("lit", Boolean(highlighted));
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
  for (const span of byId("prompt-running").children) {
    mark(span, byId("prompt-strip").querySelector(`[data-index="${span.dataset.first}"].lit`));
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

/** Highlight a chip and its text; from the text also the chips that share its character. */
function highlightChip(chip, withGroup = false) {
  clearHighlight();
  if (!byId("strip").contains(chip)) {
    highlightPrompt(Number(chip.dataset.start), Number(chip.dataset.end));
    return;
  }
  const index = Number(chip.dataset.index);
  const group = [...(chip.closest(".group") ?? chip.parentElement).querySelectorAll(".chip")];
  const indexes = group.map(({ dataset }) => Number(dataset.index));
  highlightResult(withGroup ? indexes[0] : index, withGroup ? indexes.at(-1) : index);
  // A character that several tokens share may have come out before the last of them.
  highlightText(indexes[0], index);
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
