// What can follow a text that is there: continue, regenerate, branch off, cut back. Tokens
// that stay travel as ids in the form's field `kept`.
import { byId, generatedIds, make } from "./dom.js";
import { followOwner, hideCard } from "./details.js";
import { setPrompt } from "./form.js";
import { INTERRUPTED, state } from "./state.js";
import { abort } from "./stream.js";

let before = []; // the chips of the strip when the request in flight was sent

export function start() {
  const form = byId("form");
  const prompt = byId("prompt");
  if (byId("prompt-text").firstElementChild) {
    state.source = { prompt: prompt.defaultValue, kept: "" };
  }
  form.addEventListener(INTERRUPTED, () => {
    const kept = generatedIds();
    const again = keepButton(state.source?.kept.split(",") ?? [], "Regenerate");
    again.setAttribute("formaction", `${form.getAttribute("action")}?regenerate=1`);
    offer(...(kept.length ? [keepButton(kept, "Continue")] : []), again);
  });
  form.addEventListener("submit", onSubmit, true);
  form.addEventListener("htmx:before:sse:connection", () => {
    state.source = state.sent; // the request was accepted
  });
  form.addEventListener("htmx:before:request", ({ target }) => {
    if (target !== form) return;
    hideCard();
    before = [...byId("strip").querySelectorAll(".chip")];
  });
  form.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx.sourceElement !== form || ctx.response.status === 204) return; // 204: given up
    followOwner();
    carryOver();
  });
}

/** Kept tokens belong to the prompt they were generated from, whatever was typed since. */
function onSubmit({ submitter }) {
  const isKeeping = submitter?.name === "kept";
  const kept = isKeeping ? submitter.value : "";
  const { source } = state;
  if (kept && submitter.closest("#after") && source && byId("prompt").value !== source.prompt) {
    setPrompt(source.prompt);
  }
  const ofLink = byId("form").querySelector('input[name="kept"]')?.value;
  state.sent = { prompt: byId("prompt").value, kept: isKeeping ? kept : (ofLink ?? "") };
}

/** A button that submits the form with these tokens kept, as the server's own do. */
function keepButton(ids, label) {
  const button = make("button", { name: "kept", value: ids.join(","), textContent: label });
  button.setAttribute("form", "form");
  return button;
}

function offer(...buttons) {
  byId("after").replaceChildren(make("div", { className: "actions" }, ...buttons));
}

/** Generate after the prompt and these tokens. */
export function continueWith(ids) {
  const button = keepButton(ids, "Continue");
  byId("after").append(button);
  byId("form").requestSubmit(button);
  button.remove();
  byId("text").focus({ preventScroll: true }); // the card that had the focus is gone
}

/** Remove what was generated after `chip`. */
export function cutAfter(chip) {
  const last = Number(chip.dataset.index);
  hideCard();
  abort();
  for (const item of byId("strip").querySelectorAll("li")) cutGroup(item, last);
  for (const span of byId("text").querySelectorAll(".made")) {
    if (Number(span.dataset.last) > last) span.remove();
  }
  const kept = generatedIds();
  offer(keepButton(kept, "Continue from here"));
  byId("status").textContent = `Cut back to ${kept.length} generated tokens.`;
  byId("progress").replaceChildren();
  byId("candidates").replaceChildren();
  chip.focus();
}

/** Half of a bracket's tokens do not make its character any more. */
function cutGroup(item, last) {
  const chips = [...item.querySelectorAll(".chip")];
  const left = chips.filter((chip) => {
    return !chip.matches(".generated") || Number(chip.dataset.index) <= last;
  });
  if (left.length < chips.length) item.replaceWith(...left.map((chip) => make("li", {}, chip)));
}

/**
 * The server draws kept chips without what the model thought of them. That is still known
 * from the chips before, as far as all earlier tokens are the same.
 */
function carryOver() {
  const now = before.length ? [...byId("strip").querySelectorAll(".chip")] : [];
  for (const [at, chip] of now.entries()) {
    if (!before[at]) break;
    if (at > 0 && now[at - 1].dataset.id !== before[at - 1].dataset.id) break;
    if (chip.matches(".generated:not([data-candidates])")) copyThoughts(before[at], chip);
  }
  before = [];
}

function copyThoughts(from, to) {
  const { candidates, id } = from.dataset;
  if (!candidates) return;
  to.dataset.candidates = candidates;
  const same = to.dataset.id === id;
  const chosen = JSON.parse(candidates).find((other) => String(other.id) === to.dataset.id);
  const share = same ? from.querySelector(".probability")?.textContent : chosen?.percent;
  if (!share) return;
  to.classList.add(same ? from.className.match(/\bp\d+\b/)[0] : `p${chosen.level}`);
  to.append(make("span", { className: "probability", textContent: share }));
}
