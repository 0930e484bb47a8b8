// The card of a token: what it is and, where the model chose it, what else it might have been.
import { continueWith, cutAfter } from "./branch.js";
import { byId, chipAt, clone, generatedIds, make, unitsOf } from "./dom.js";
import { moveTabStop } from "./keyboard.js";
import { state } from "./state.js";

const hover = matchMedia("(hover: hover)");

export function start() {
  document.addEventListener("pointerover", ({ target }) => {
    const chip = chipAt(target);
    if (!chip) {
      if (!state.pinned && !byId("card").contains(target)) hideCard();
    } else if (hover.matches) {
      showCard(chip); // a finger opens it by tapping
    }
  });
  document.addEventListener("focusin", ({ target }) => {
    const chip = chipAt(target);
    if (chip) {
      moveTabStop(chip);
      showCard(chip);
    } else if (!state.pinned && !byId("card").contains(target)) {
      hideCard();
    }
  });
  document.addEventListener("click", onClick);
  byId("prompt").addEventListener("input", hideCard);
}

export function hideCard() {
  const card = byId("card");
  const { owner } = state;
  owner?.removeAttribute("aria-describedby");
  if (card.contains(document.activeElement)) owner?.focus(); // while pinned: it is not shown again
  card.hidden = true;
  state.owner = null;
  state.pinned = false;
}

/** Show the card of `chip`; a pinned one stays, and takes the focus unless `focus` is false. */
export function showCard(chip, pinned = false, focus = pinned) {
  if (state.pinned && !pinned) return;
  const card = byId("card");
  state.owner?.removeAttribute("aria-describedby");
  state.owner = chip;
  state.pinned = pinned;
  card.replaceChildren(...describe(chip), ...(pinned ? actions(chip) : [hint(chip)]));
  card.classList.toggle("pinned", pinned);
  card.setAttribute("role", pinned ? "dialog" : "tooltip");
  if (!pinned) chip.setAttribute("aria-describedby", "card");
  chip.removeAttribute("title"); // the card says more
  card.hidden = false;
  place(card, chip.getBoundingClientRect());
  if (focus) card.querySelector("a, button")?.focus();
}

/** After a stream replaced the chip whose card is shown: the card moves to its successor. */
export function followOwner() {
  const { owner, pinned } = state;
  if (!owner || owner.isConnected) return;
  const chip = byId("strip").querySelector(`[data-index="${owner.dataset.index}"]`);
  if (!chip) return hideCard();
  const hadFocus = document.activeElement === document.body && owner.tabIndex === 0;
  if (owner.tabIndex === 0) moveTabStop(chip);
  if (hadFocus) chip.focus({ preventScroll: true });
  else showCard(chip, pinned, false);
}

function place(card, chip) {
  const right = document.documentElement.clientWidth - card.offsetWidth - 8;
  const below = chip.bottom + 6;
  const above = chip.top - 6 - card.offsetHeight;
  card.style.left = `${Math.max(8, Math.min(chip.left, right))}px`;
  card.style.top = `${Math.max(8, below + card.offsetHeight < innerHeight ? below : above)}px`;
}

function onClick(event) {
  const chip = chipAt(event.target);
  if (!chip) {
    if (state.pinned && !byId("card").contains(event.target)) hideCard();
    return;
  }
  moveTabStop(chip);
  if (byId("strip").contains(chip)) return showCard(chip, true);
  const prompt = byId("prompt");
  const { start: first, end } = chip.dataset;
  prompt.setSelectionRange(unitsOf(prompt.value, first), unitsOf(prompt.value, end));
  const byMouse = event.pointerType === "mouse";
  if (byMouse) prompt.focus({ preventScroll: true });
  showCard(chip, true, !byMouse);
}

/** The bytes as text, or null if they are only part of a character. */
function decode(data) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    return null;
  }
}

function describe(chip) {
  const { bytes, start, end, rank, id } = chip.dataset;
  const data = Uint8Array.from(bytes.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const own = decode(data);
  const facts = {
    Text: textFact(chip, own),
    Bytes: bytes.replace(/../g, "$& ").trim(),
    "Code points": codePoints(own ?? chip.closest(".group")?.dataset.text ?? ""),
    Characters: charactersFact(Number(start), Number(end)),
    "Made by": mergeFact(rank, data.length),
    Id: Number(id).toLocaleString("en"),
  };
  const list = make("dl", {});
  for (const [name, value] of Object.entries(facts)) {
    if (value === "") continue;
    list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
  }
  const piece = make("span", { className: "piece", textContent: inside(chip, ".piece") });
  return [make("p", { className: "card-title" }, piece), list];
}

/** Text of a part of a chip, as the strip makes it visible. */
const inside = (element, selector) => element.querySelector(selector).textContent;

function textFact(chip, own) {
  const group = chip.closest(".group");
  if (own !== null) return `“${inside(chip, ".readable")}”`;
  return group ? `part of “${inside(group, ".shared")}”` : "not a whole character";
}

function codePoints(text) {
  const names = Array.from(text, (character) => {
    return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  });
  return names.slice(0, 8).join(" ") + (names.length > 8 ? " …" : "");
}

function charactersFact(start, end) {
  if (end === start) return "none: it ends the text";
  return end - start > 1 ? `${start} to ${end - 1}` : String(start);
}

function mergeFact(rank, nBytes) {
  if (rank === undefined) {
    return nBytes === 1 ? "no merge: a single byte" : "no merge: a special token";
  }
  const nMerges = Number(byId("card").dataset.merges);
  return `merge rank ${Number(rank).toLocaleString("en")} of ${nMerges.toLocaleString("en")}`;
}

function hint(chip) {
  const generated = chip.dataset.candidates;
  const textContent = generated ? "Click to see what else it might have been." : "Click for more.";
  return make("p", { className: "hint", textContent });
}

/** What can be done with the token: look at its merges, branch off, cut the text. */
function actions(chip) {
  const parts = [];
  const data = Uint8Array.from(chip.dataset.bytes.match(/../g) ?? [], (b) => parseInt(b, 16));
  const text = decode(data) ?? chip.closest(".group")?.dataset.text ?? "";
  if (text) {
    const href = `/bpe?${new URLSearchParams({ text })}`;
    parts.push(make("p", {}, make("a", { href, textContent: "How BPE got there" })));
  }
  if (chip.dataset.candidates) parts.push(...alternatives(chip));
  if (chip.matches(".generated")) {
    const button = make("button", { type: "button" }, "Cut the text after this token");
    button.addEventListener("click", () => cutAfter(chip));
    parts.push(button);
  }
  return parts;
}

function alternatives(chip) {
  const rows = JSON.parse(chip.dataset.candidates).map((candidate) => {
    return alternative(candidate, chip);
  });
  const textContent = "The model’s ten likeliest here; choose one to branch off";
  return [
    make("p", { className: "card-head", textContent }),
    make("ol", { className: "alternatives" }, ...rows),
  ];
}

function alternative({ id, piece, probability, percent }, chip) {
  const row = clone("alternative");
  const chosen = String(id) === chip.dataset.id;
  row.classList.toggle("chosen", chosen);
  row.querySelector(".piece").textContent = piece;
  row.querySelector("meter").value = probability;
  row.querySelector("meter").setAttribute("aria-label", percent);
  row.querySelector(".share").textContent = percent + (chosen ? " chosen" : "");
  row.querySelector("button").addEventListener("click", () => {
    continueWith([...generatedIds(chip.dataset.index), id]);
  });
  return row;
}
