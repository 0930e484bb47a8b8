// One request counts for each target: the newest. What htmx does not do by itself about
// requests that were replaced, and about a prompt that the server did not tokenize.
import { byId, make } from "./dom.js";
import { markInvalid } from "./form.js";

const newest = new WeakMap(); // target element -> its newest request

export function start() {
  const form = byId("form");
  const prompt = byId("prompt");
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
    if (ctx?.sourceElement === prompt && ctx.request === newest.get(ctx.target)) {
      showNotTokenized("problem", "The prompt was not cut: the server cannot be reached.");
    }
  });
  form.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx.sourceElement !== prompt) return;
    markInvalid(false); // too long even to be tokenized
    if (ctx.response.status === 422) showNotTokenized("hint", "The prompt was not cut.");
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

/** A paragraph that is announced if it is a problem. */
export function note(className, message) {
  const paragraph = make("p", { className, textContent: message });
  if (className === "problem") paragraph.setAttribute("role", "alert");
  return paragraph;
}

/** Chips of an earlier prompt would mislead. Announced once, however much is typed meanwhile. */
function showNotTokenized(className, message) {
  const tokens = byId("tokens");
  if (tokens.textContent !== message) tokens.replaceChildren(note(className, message));
}
