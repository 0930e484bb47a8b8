// One generation at a time: Generate, Stop, and a text that ends before it is done.
import { byId } from "./dom.js";
import { markInvalid } from "./form.js";
import { followAgain, followNewest, reveal } from "./follow.js";
import { note } from "./requests.js";
import { INTERRUPTED, state } from "./state.js";

const LOST = "The connection to the server was lost. Check that it is running, then try again.";

export function start() {
  const form = byId("form");
  document.addEventListener("htmx:before:request", ({ target, detail: { ctx } }) => {
    if (target !== form) return;
    abort(); // a new request replaces the one before
    followAgain();
    setRunning({ ctx });
  });
  form.addEventListener("htmx:before:sse:connection", onStream);
  form.addEventListener("htmx:sse:close", onClose);
  form.addEventListener("htmx:error", ({ detail: { ctx } }) => {
    if (ctx && ctx === state.running?.ctx) onLost();
  });
  form.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx.sourceElement !== form) return;
    const { status } = ctx.response;
    if (status >= 400) interrupt("");
    if (status === 422 || form.querySelector("[aria-invalid]")) markInvalid(status === 422);
    followNewest();
  });
  for (const id of ["stop", "stop-here"]) byId(id).addEventListener("click", stop);
}

/** Stop the text that is being written; its chips stay. */
export function stop() {
  if (!state.running) return;
  abort();
  interrupt("Stopped.");
}

/** Give up the request in flight. */
export function abort() {
  if (!state.running) return;
  const { ctx, connection } = state.running;
  setRunning(null);
  if (connection?.reader) connection.reader.cancel();
  else ctx.request.abort();
}

function setRunning(request) {
  const stopHere = byId("stop-here"); // beside the text, where the window has one column
  state.running = request;
  // A button that disappears takes the focus with it.
  if (!request && document.activeElement === byId("stop")) byId("generate").focus();
  if (!request && document.activeElement === stopHere) byId("text").focus({ preventScroll: true });
  byId("stop").hidden = stopHere.hidden = !request;
  // Not around the status line: screen readers do not announce what is busy.
  for (const id of ["text", "strip"]) byId(id).setAttribute("aria-busy", String(Boolean(request)));
}

function onStream({ detail }) {
  if (!state.running) return;
  state.running.connection = detail.connection;
  state.unfinished = true;
  // Chips and buttons are about to be replaced.
  if (document.activeElement?.closest("#after, #strip"))
    byId("text").focus({ preventScroll: true });
  byId("form").addEventListener("htmx:after:sse:message", reveal, { once: true });
}

function onClose({ detail }) {
  if (detail.connection !== state.running?.connection) return; // it was replaced
  if (byId("status").querySelector("[data-finish-reason]")) {
    state.unfinished = false;
    setRunning(null);
  } else if (byId("problem").firstElementChild) {
    interrupt("");
  } else {
    onLost();
  }
}

function onLost() {
  interrupt("");
  byId("problem").replaceChildren(note("problem", LOST));
}

/** A text that ended before it was done can be continued, whatever the reason. */
function interrupt(status) {
  setRunning(null);
  byId("status").textContent = status;
  byId("progress").querySelector(".meanwhile")?.remove();
  if (state.unfinished) byId("form").dispatchEvent(new Event(INTERRUPTED));
}
