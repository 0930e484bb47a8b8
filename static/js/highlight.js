// Hovering, focusing or selecting a chip or its text highlights both.
import { byId, charactersOf, chipAt, make, prompt, unitsOf, TOKEN } from "./dom.js";

export function start() {
  document.addEventListener("selectionchange", () => {
    if (!document.activeElement?.closest(TOKEN)) highlightSelection();
  });
  document.addEventListener("pointerover", ({ target }) => {
    const chip = chipAt(target);
    if (target.closest?.("#details")) return;
    const focused = chipAt(document.activeElement);
    if (focused) highlightChip(focused);
    else highlightSelection();
    if (!chip || (!target.closest(".strip") && !getSelection().isCollapsed)) return;
    highlightChip(chip, !target.closest(".strip"));
  });
  document.addEventListener("focusin", ({ target }) => {
    const chip = chipAt(target);
    if (chip) highlightChip(chip);
    else if (!target.closest("#details")) clearHighlight();
  });
  prompt.addEventListener("input", clearHighlight);
  prompt.addEventListener("scroll", () => {
    byId("mirror").scrollTop = prompt.scrollTop;
  });
}

/** Highlight the tokens `first` to `last` of a strip, and their text. */
function highlight(strip, text, first, last, firstOfText = first) {
  for (const chip of strip?.querySelectorAll("[data-index]") ?? []) {
    const index = Number(chip.dataset.index);
    chip.classList.toggle("lit", index >= first && index <= last);
  }
  for (const { dataset, classList } of text?.querySelectorAll("[data-first]") ?? []) {
    classList.toggle("lit", Number(dataset.first) <= last && Number(dataset.last) >= firstOfText);
  }
}

const highlightResult = (...tokens) => highlight(byId("strip"), byId("text"), ...tokens);

/** Highlight the tokens of the prompt between the characters `start` and `end`. */
function highlightPromptChips(start, end) {
  const strip = byId("prompt-strip");
  const chips = [...(strip?.querySelectorAll("[data-index]") ?? [])];
  const covered = chips.filter(({ dataset }) => dataset.start < end && dataset.end > start);
  const [first, last] = [covered[0], covered.at(-1)].map((chip) => Number(chip?.dataset.index));
  highlight(strip, byId("prompt-running"), first, last);
}

/** Highlight the characters `start` to `end` of the prompt, behind the text area. */
function highlightPrompt(start, end) {
  highlightPromptChips(start, end);
  const { value, scrollTop } = prompt;
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
  const [first, last] = withGroup ? [indexes[0], indexes.at(-1)] : [index, index];
  // A character that several tokens share may have come out before the last of them.
  highlightResult(first, last, indexes[0]);
}

/** What is selected stays highlighted while nothing else is pointed at. */
function highlightSelection() {
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
