// The text that is shown, and what can follow it: continue, regenerate, branch off, write a
// token by hand, cut back, undo. Tokens that stay travel as ids in the form's field `kept`.
import {
  byId,
  clone,
  focusText,
  form,
  generatedIds,
  make,
  pace,
  prompt,
  resultChips,
} from "./dom.js";
import { setPrompt } from "./form.js";
import { ABORT, CHANGED, emit, state } from "./state.js";

const MAX_HISTORY = 50;
const PARTS = ["note", "text", "strip", "after", "status", "progress"]; // of the page, by id
let before = []; // the chips of the strip when the request in flight was sent
let expected = null; // the element with the candidates for the token after them
let snapshot = null; // of the text when the request in flight was sent

export function start() {
  if (byId("prompt-text").firstElementChild) {
    state.source = { prompt: prompt.defaultValue, kept: [] };
  }
  form.addEventListener("submit", onSubmit, true);
  form.addEventListener("htmx:before:sse:connection", accept);
  form.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx === state.running?.ctx && ctx.response.status === 200) carryOver();
  });
  form.addEventListener(CHANGED, () => {
    byId("undo").hidden = !state.history.length;
    showWhose();
  });
  prompt.addEventListener("input", showWhose);
  byId("undo").addEventListener("click", undo);
}

/** Whether the text that is shown begins with what stands in the prompt now. */
export const isOfPrompt = () => state.source?.prompt === prompt.value;

/** Say so if it was written from an earlier prompt. */
function showWhose() {
  byId("earlier").hidden = !state.source || isOfPrompt();
}

function onSubmit(event) {
  const { submitter } = event;
  const made = generatedIds();
  if (
    pace() === "step" &&
    (submitter?.id ?? "generate") === "generate" &&
    isOfPrompt() &&
    made.length
  ) {
    event.preventDefault();
    event.stopImmediatePropagation();
    setTimeout(() => submitKept(made)); // not while this event is dispatched
    return;
  }
  snapshot = capture();
  before = resultChips();
  // Regenerate draws another seed.
  if (submitter?.getAttribute("formaction")?.includes("regenerate")) byId("seed").value = "";
  expected = byId("next").querySelector("[data-candidates]");
  // Kept tokens belong to the prompt from which they were generated.
  const kept = submitter?.name === "kept" ? submitter.value : "";
  if (kept && submitter.closest("#after") && state.source && !isOfPrompt()) {
    setPrompt(state.source.prompt);
    submitter.focus();
  }
  const ids = submitter?.name === "kept" ? kept : ofLink();
  state.sent = { prompt: prompt.value, kept: ids ? ids.split(",") : [] };
}

/** The request in flight was accepted: its text takes the place of the one before. */
export function accept() {
  if (before.length || state.sent.kept.length) remember(snapshot);
  state.source = state.sent;
  if (!state.sent.isOfLink) byId("note").replaceChildren();
  showWhose();
}

/** Submit the form with these tokens kept, optionally to another address. */
function submitKept(ids, { action, parent = byId("after") } = {}) {
  const button = make("button", { name: "kept", value: ids.join(","), hidden: true });
  button.setAttribute("form", "form");
  if (action) button.setAttribute("formaction", action);
  parent.append(button);
  form.requestSubmit(button);
  button.remove();
}

/** Write the token `id` after the text that is shown, and nothing else. */
export function writeByHand(id) {
  const ofText = isOfPrompt();
  const ids = [...(ofText ? generatedIds() : linkedIds()), id];
  submitKept(ids, { action: appendUrl(), parent: byId(ofText ? "after" : "form") });
}

const appendUrl = () => form.dataset.append;
const ofLink = () => form.querySelector('input[name="kept"]')?.value;
const linkedIds = () => ofLink()?.split(",") ?? [];

/** Put the token `id` in the place of `chip`, and go on from there. */
export function branch(chip, id) {
  const ids = [...generatedIds(chip.dataset.index), id];
  submitKept(ids, { action: pace() === "step" ? appendUrl() : undefined });
  focusText();
}

/** Remove what was generated after `chip`. */
export function cutAfter(chip) {
  const last = Number(chip.dataset.index);
  emit(ABORT);
  remember(capture());
  byId("note").replaceChildren();
  for (const item of byId("strip").querySelectorAll("li")) cutGroup(item, last);
  for (const span of byId("text").querySelectorAll(".made")) {
    if (Number(span.dataset.last) > last) span.remove();
  }
  state.unfinished = false;
  const n = generatedIds().length;
  byId("status").textContent = `Cut back to ${n} generated token${n === 1 ? "" : "s"}.`;
  byId("progress").replaceChildren();
  offer();
}

/** The tokens left of a bracket no longer make its character: they stand alone. */
function cutGroup(item, last) {
  const chips = [...item.querySelectorAll(".chip")];
  const left = chips.filter((chip) => {
    return !chip.matches(".generated") || Number(chip.dataset.index) <= last;
  });
  if (left.length < chips.length) item.replaceWith(...left.map((chip) => make("li", {}, chip)));
}

/** What can follow a text that the server did not end: buttons, and candidates. */
export function offer() {
  const actions = clone("offer");
  const made = generatedIds();
  actions.querySelector(".continue").value = made.join(",");
  actions.querySelector(".continue").hidden = !made.length;
  actions.querySelector(".again").value = state.source?.kept.join(",") ?? "";
  byId("after").replaceChildren(actions);
  emit(CHANGED);
}

/** The text that is shown, to be restored by `restore`. */
export function capture() {
  const html = Object.fromEntries(PARTS.map((id) => [id, byId(id).innerHTML]));
  const { source, unfinished } = state;
  return { html, source, unfinished, prompt: prompt.value };
}

export function restore({ html, source, unfinished }) {
  emit(ABORT);
  for (const id of PARTS) byId(id).innerHTML = html[id];
  Object.assign(state, { source, unfinished });
  if (unfinished) interrupt("Stopped.");
  else emit(CHANGED);
}

/** The text ended before it was done: it can be continued. */
export function interrupt(status) {
  byId("status").textContent = status;
  byId("progress").replaceChildren();
  if (state.unfinished) offer();
}

function remember(earlier) {
  state.history.push(earlier);
  if (state.history.length > MAX_HISTORY) state.history.shift();
}

/** Back to the text before the last change; the prompt too if the change replaced it. */
export function undo() {
  const earlier = state.history.pop();
  if (!earlier) return;
  restore(earlier);
  if (earlier.prompt !== prompt.value) setPrompt(earlier.prompt);
  if (document.activeElement === document.body) focusText();
}

/**
 * The server draws kept chips without what the model thought of them. As far as the tokens are
 * the same, the chips before take their places. The next one was chosen by hand, from candidates
 * that are known.
 */
function carryOver() {
  if (!before.length && !expected) return;
  const identity = (chip) => chip && chip.dataset.id + chip.matches(".generated");
  const chips = resultChips();
  let at = 0;
  while (at < chips.length && identity(chips[at]) === identity(before[at])) {
    chips[at].replaceWith(before[at]);
    at += 1;
  }
  if (before[at] && chips[at]) copyThoughts(before[at], chips[at]);
  const last = chips.at(-1);
  const isNext = last && generatedIds(last.dataset.index).join(",") === expected?.dataset.after;
  if (isNext) copyThoughts(expected, last);
  before = [];
  expected = null;
}

function copyThoughts({ dataset }, to) {
  const { candidates } = dataset;
  if (!candidates || !to.matches(".generated:not([data-candidates])")) return;
  to.dataset.candidates = candidates;
  const own = JSON.parse(candidates).find(({ id }) => String(id) === to.dataset.id);
  if (!own) return;
  to.classList.add(`p${own.level}`, "by-hand");
  to.ariaLabel += ", chosen by hand";
  to.append(make("span", { className: "probability", textContent: own.percent }));
}
