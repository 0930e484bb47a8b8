// One request of the form at a time: Generate, Stop, and a text that ends before it is done.
import { showChosen } from "./candidates.js";
import { byId, focusText, form, pace, problem, resultChips } from "./dom.js";
import { markInvalid } from "./form.js";
import { followAgain, followNewest, reveal } from "./follow.js";
import { holdSentence } from "./sentences.js";
import { ABORT, CHANGED, emit, state } from "./state.js";
import { updateStrip } from "./strip.js";
import { accept, interrupt, offer } from "./text.js";

const LOST = "The connection to the server was lost. Check that it is running, then try again.";
const STATUS = ["status", "progress"]; // the status line, by id
const REDRAW_MS = 200; // ten rows for every token are more than browsers draw and readers follow
let arrivals = { first: 0, n: 0 }; // of the tokens of the stream, in ms
let drawnAt = 0;
let replaced = []; // the HTML of the status line before the request in flight
let isStepping = false; // whether "Next token" had the focus and gets it again

export function start() {
  document.addEventListener("htmx:before:request", ({ target, detail: { ctx } }) => {
    if (target !== form) return;
    abort(); // a new request replaces the one before
    followAgain();
    setRunning({ ctx });
    replaced = STATUS.map((id) => byId(id).innerHTML);
    byId("status").textContent = "Asking…";
    byId("progress").replaceChildren();
  });
  form.addEventListener("htmx:before:sse:connection", onStream);
  form.addEventListener("htmx:sse:close", onClose);
  form.addEventListener("htmx:error", ({ detail: { ctx } }) => {
    if (ctx && ctx === state.running?.ctx) onLost();
  });
  form.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx === state.running?.ctx) onSwap(ctx.response.status);
  });
  form.addEventListener(ABORT, abort);
  byId("stop").addEventListener("click", stop);
}

/** Stop the text that is being written; its chips stay. */
export function stop() {
  if (!state.running || isFinished()) return; // a stream closes later
  abort();
  end("Stopped.");
}

function abort() {
  if (!state.running) return;
  const { ctx, connection } = state.running;
  setRunning(null);
  if (connection?.reader) connection.reader.cancel();
  else ctx.request.abort();
}

function setRunning(request) {
  const stopButton = byId("stop");
  state.running = request;
  // A button that disappears takes the focus with it.
  if (!request && document.activeElement === stopButton) focusText();
  stopButton.hidden = !request;
  byId("undo").hidden = Boolean(request) || !state.history.length;
  // Not around the status line: screen readers do not announce what is busy.
  for (const id of ["text", "strip"]) byId(id).setAttribute("aria-busy", String(Boolean(request)));
}

function onStream({ detail }) {
  if (!state.running) return;
  state.running.connection = detail.connection;
  state.unfinished = true;
  arrivals = { first: 0, n: 0 };
  // Chips and buttons are about to be replaced.
  const focused = document.activeElement;
  isStepping = pace() === "step" && Boolean(focused?.closest("#after"));
  if (focused?.closest("#after, #strip, #text span")) focusText();
  form.addEventListener("htmx:after:sse:message", reveal, { once: true });
}

function onSwap(status) {
  if (status >= 400) refuse();
  if (status === 422 || form.querySelector("[aria-invalid]")) markInvalid(status === 422);
  if (status !== 200) return;
  if (!state.running.connection) {
    // The answer to a token that was written by hand.
    accept();
    state.unfinished = false;
    setRunning(null);
    return offer();
  }
  state.unfinished = !isFinished();
  showArrivals();
  holdSentence(false);
  followNewest(showNewest);
}

/** The request was refused: a finished text stays as it was. */
function refuse() {
  end("");
  if (!state.unfinished) STATUS.forEach((id, at) => (byId(id).innerHTML = replaced[at]));
}

/** The speed that is shown is that of what arrives. */
function showArrivals() {
  const speedShown = byId("progress").querySelector(".speed");
  if (!speedShown || isFinished()) return;
  const now = performance.now();
  if (arrivals.n === 0) arrivals.first = now;
  arrivals.n += 1;
  if (arrivals.n < 3 || now === arrivals.first) return;
  const speed = (1000 * (arrivals.n - 1)) / (now - arrivals.first);
  speedShown.textContent = `${Math.round(speed)} tokens/s`;
}

const isFinished = () => Boolean(byId("status").querySelector("[data-finish-reason]"));

function showNewest() {
  updateStrip();
  if (!state.running || performance.now() - drawnAt < REDRAW_MS) return;
  drawnAt = performance.now();
  showChosen(resultChips("li:not(.held) .generated").at(-1));
}

function onClose({ detail }) {
  if (detail.connection !== state.running?.connection) return; // it was replaced
  if (isFinished()) {
    holdSentence(true);
    setRunning(null);
    emit(CHANGED);
    if (isStepping) byId("after").querySelector(".step")?.closest("button").focus();
  } else if (byId("problem").firstElementChild) {
    end("");
  } else {
    onLost();
  }
}

function onLost() {
  end("");
  byId("problem").replaceChildren(problem(LOST));
}

/** The stream ended before the text was done, whatever the reason. */
function end(status) {
  holdSentence(true);
  setRunning(null);
  interrupt(status);
}
