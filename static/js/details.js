// The details of a token: what else it might have been, what it is made of. They open where
// they cover no token that they explain.
import { candidateTable } from "./candidates.js";
import { byId, chipAt, clone, form, generatedIds, make, prompt, shownAs, unitsOf } from "./dom.js";
import { specialTokens } from "./form.js";
import { CHANGED, state } from "./state.js";
import { moveTabStop } from "./strip.js";
import { branch, cutAfter } from "./text.js";

const HOVER_MS = 150;
const hasOwnColumn = matchMedia("(min-width: 100rem) and (hover: hover)");
let placeholder = null; // what the panel shows when no token is chosen
let hovering = 0; // timer

export function start() {
  placeholder = byId("details").firstElementChild;
  document.addEventListener("pointerover", ({ target }) => {
    clearTimeout(hovering);
    const chip = chipAt(target);
    if (!chip || !hasOwnColumn.matches || isOpen()) return;
    hovering = setTimeout(() => show(chip), HOVER_MS);
  });
  document.addEventListener("focusin", ({ target }) => {
    const chip = chipAt(target);
    if (!chip) return;
    moveTabStop(target);
    if (isOpen() || hasOwnColumn.matches) show(chip);
  });
  document.addEventListener("click", onClick);
  prompt.addEventListener("input", () => {
    if (state.owner?.closest("#prompt-strip")) closeDetails();
  });
  form.addEventListener("htmx:after:swap", followOwner);
  form.addEventListener(CHANGED, followOwner);
}

/** Whether the details were opened on purpose: they stay until they are closed. */
export const isOpen = () => byId("details").classList.contains("open");

export function closeDetails() {
  const details = byId("details");
  const { owner } = state;
  const hadFocus = details.contains(document.activeElement);
  details.classList.remove("open");
  details.replaceChildren(placeholder);
  state.owner = null;
  if (!hadFocus) return;
  for (const place of [byId("text"), owner && shownAs(owner)]) {
    place?.focus({ preventScroll: true });
  }
}

function onClick(event) {
  const { target } = event;
  if (target.closest("#details .close")) return closeDetails();
  const chip = chipAt(target);
  if (!chip || (target.closest("#text") && !getSelection().isCollapsed)) return;
  moveTabStop(shownAs(chip));
  if (chip.closest("#prompt-strip")) selectInPrompt(chip);
  open(chip);
  // A press of Enter or Space: the details get the focus, Escape brings it back.
  if (event.detail === 0) byId("details").querySelector(".details-title").focus();
}

function selectInPrompt({ dataset }) {
  const { value } = prompt;
  prompt.setSelectionRange(unitsOf(value, dataset.start), unitsOf(value, dataset.end));
}

function open(chip) {
  const details = byId("details");
  details.classList.add("open");
  details.dataset.column = chip.closest("#strip") ? 1 : 2;
  show(chip);
  // A sheet at the bottom: the token it explains stays above it.
  const { bottom, height } = (shownAs(chip) ?? chip).getBoundingClientRect();
  const covered = bottom + 8 - details.getBoundingClientRect().top;
  if (getComputedStyle(details).position === "fixed" && height && covered > 0) {
    scrollBy({ top: covered, behavior: "instant" });
  }
}

function show(chip) {
  state.owner = chip;
  byId("details").replaceChildren(describe(chip));
}

/** A stream replaced the chip whose details are shown: they move to its successor. */
function followOwner() {
  const { owner } = state;
  if (!owner || owner.isConnected) return;
  const strip = byId(owner.classList.contains("generated") ? "strip" : "prompt-strip");
  const chip = strip?.querySelector(`[data-index="${owner.dataset.index}"]`);
  if (!chip) return closeDetails();
  show(chip);
}

function describe(chip) {
  const panel = clone("details-template");
  const { candidates } = chip.dataset;
  const title = panel.querySelector(".details-title");
  title.append(...[".piece", ".readable"].map((part) => chip.querySelector(part).cloneNode(true)));
  if (candidates) panel.querySelector(".details-candidates").append(alternatives(chip));
  else panel.querySelector(".details-candidates").remove();
  const cut = panel.querySelector(".cut");
  cut.hidden = !chip.matches(".generated");
  cut.addEventListener("click", () => {
    closeDetails();
    cutAfter(chip);
    chip.focus();
  });
  for (const [name, value] of Object.entries(facts(chip))) {
    if (value === "") continue;
    panel
      .querySelector("dl")
      .append(make("dt", { textContent: name }), make("dd", { textContent: value }));
  }
  const text = textOf(chip);
  const [link, why] = panel.querySelectorAll(".more a");
  link.href += `?${withSpecialTokens({ text })}`;
  link.hidden = !text;
  if (why) linkWhy(why, chip);
  return panel;
}

/** The token's logit as a sum of shares, after the text that stood before it. */
function linkWhy(link, chip) {
  const { id, index } = chip.dataset;
  const kept = generatedIds(index).join(",");
  const fields = { prompt: state.source?.prompt ?? prompt.defaultValue, kept, for: id };
  link.href += `?${withSpecialTokens(fields)}`;
  link.hidden = !chip.matches(".generated");
}

/** The fields of an address whose text is cut as the prompt is. */
function withSpecialTokens(fields) {
  const special = specialTokens();
  return new URLSearchParams(
    special === undefined ? fields : { ...fields, special_tokens: Number(special) },
  );
}

function alternatives(chip) {
  const table = candidateTable(chip);
  table.addEventListener("click", ({ target }) => {
    const button = target.closest(".candidate");
    if (!button) return;
    closeDetails();
    branch(chip, button.dataset.id);
  });
  return table;
}

/** The token's own text; that of its bracket if it is only part of a character; or "". */
function textOf(chip) {
  return decode(chip) ?? chip.closest(".group")?.dataset.text ?? "";
}

/** The bytes as text, or null if they are only part of a character. */
function decode({ dataset }) {
  const data = Uint8Array.from(dataset.bytes.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    return null;
  }
}

function facts(chip) {
  const { bytes, start: first, end, rank, id } = chip.dataset;
  return {
    Text: textFact(chip),
    Id: Number(id).toLocaleString("en"),
    Bytes: bytes.replace(/../g, "$& ").trim(),
    "Code points": codePoints(textOf(chip)),
    Characters: charactersFact(Number(first), Number(end)),
    "Made by": mergeFact(rank, bytes.length / 2),
  };
}

/** Text of a part of a chip, as the strip makes it visible. */
const inside = (element, selector) => element.querySelector(selector).textContent;

function textFact(chip) {
  const group = chip.closest(".group");
  if (decode(chip) !== null) return `“${inside(chip, ".readable")}”`;
  return group ? `part of “${inside(group, ".shared")}”` : "not a whole character";
}

function codePoints(text) {
  const names = Array.from(text, (character) => {
    return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  });
  return names.slice(0, 8).join(" ") + (names.length > 8 ? " …" : "");
}

/** Characters are counted from 1. */
function charactersFact(first, end) {
  if (end === first) return "none: it ends the text";
  return end - first > 1 ? `${first + 1} to ${end}` : String(end);
}

function mergeFact(rank, nBytes) {
  if (rank === undefined) {
    return nBytes === 1 ? "no merge: a single byte" : "no merge: a special token";
  }
  const nMerges = Number(byId("details").dataset.merges);
  return `merge rank ${Number(rank).toLocaleString("en")} of ${nMerges.toLocaleString("en")}`;
}
