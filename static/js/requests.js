// One request counts for each target: the newest. What htmx does not do by itself about
// requests that were replaced, and about a prompt that the server did not tokenize.
import { byId, form, problem, prompt } from "./dom.js";
import { markInvalid } from "./form.js";
import { RETRY } from "./state.js";

const NOT_TOKENIZED = "The prompt was not cut: the server cannot be reached.";
const RETRY_MS = 3000;
const newest = new WeakMap(); // target element -> its newest request
let retry = 0; // timer

export function start() {
  document.addEventListener("htmx:before:request", ({ target, detail: { ctx } }) => {
    ctx.fetch = ignoringAbort(ctx.fetch);
    if (target === form) return; // see stream.js
    // When a request that htmx gave up ends, htmx forgets the one that took its place.
    newest.get(ctx.target)?.abort();
    newest.set(ctx.target, ctx.request);
  });
  // A form with hx-post ignores the formaction of the button that submits it.
  form.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
    const address = ctx.sourceEvent?.submitter?.getAttribute("formaction");
    if (address) ctx.request.action = address;
  });
  // Candidates for a text that is changing are outdated.
  form.addEventListener("input", () => newest.get(byId("next"))?.abort());
  form.addEventListener("htmx:error", ({ detail: { ctx } }) => {
    if (ctx?.sourceElement !== prompt || ctx.request !== newest.get(ctx.target)) return;
    showNotTokenized();
    retry = setTimeout(() => prompt.dispatchEvent(new Event(RETRY)), RETRY_MS);
  });
  form.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx.sourceElement !== prompt) return;
    clearTimeout(retry);
    markInvalid(false); // too long
    // After an outage the candidates are outdated too.
    if (ctx.sourceEvent?.type === RETRY) form.dispatchEvent(new Event("input"));
  });
}

/** An aborted request is no error: it is answered with "no content" instead. */
function ignoringAbort(fetch) {
  return async (...request) => {
    try {
      return await fetch(...request);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      return new Response(null, { status: 204 });
    }
  };
}

/** Chips of an earlier prompt would mislead. Announced once, however much is typed meanwhile. */
function showNotTokenized() {
  const tokens = byId("tokens");
  if (tokens.textContent !== NOT_TOKENIZED) tokens.replaceChildren(problem(NOT_TOKENIZED));
}
