// Candidates as a table, and as a way to write.
import { byId, clone, form, generatedIds, prompt, resultChips } from "./dom.js";
import { showWrong } from "./form.js";
import { CHANGED, state } from "./state.js";
import { isOfPrompt, writeByHand } from "./text.js";

const HEADING = "What comes next?";
const OF_NEW_PROMPT = "What comes after the new prompt?";
let pressed = -1; // the place of the candidate that was chosen, until the next ones are there

export function start() {
  const next = byId("next");
  next.addEventListener("htmx:config:request", (event) => {
    // While a text is written, the table is that of its newest token.
    if (state.running) event.preventDefault();
    if (isOfPrompt()) event.detail.ctx.request.body.set("kept", generatedIds().join(","));
  });
  next.addEventListener("click", ({ target }) => {
    const button = target.closest(".candidate");
    if (!button) return;
    pressed = buttonsIn(next).indexOf(button);
    writeByHand(button.dataset.id);
  });
  byId("more-candidates").addEventListener("click", ({ target }) => {
    const isAll = byId("result").classList.toggle("all-candidates");
    target.textContent = isAll ? "Show five" : "Show ten";
  });
  // Candidates of a prompt that has changed must not be chosen.
  prompt.addEventListener("input", () => {
    next.inert = true;
  });
  document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx.target !== next) return;
    byId("next-heading").textContent = byId("earlier").hidden ? HEADING : OF_NEW_PROMPT;
    next.inert = false;
    showWrong();
    keepFocus(next);
  });
  form.addEventListener(CHANGED, () => showChosen(resultChips(".generated").at(-1)));
}

const buttonsIn = (table) => [...table.querySelectorAll(".candidate")];

/** Where a candidate was chosen, the one at its place gets the focus. */
function keepFocus(next) {
  if (pressed >= 0 && document.activeElement === document.body) {
    const shown = buttonsIn(next).filter((one) => one.offsetParent);
    (shown[pressed] ?? shown.at(-1) ?? byId("text")).focus({ preventScroll: true });
  }
  pressed = -1;
}

/** Show how `chip` was chosen, until the candidates for the next token are there. */
export function showChosen(chip) {
  if (!chip?.dataset.candidates) return;
  byId("next-heading").textContent = "Chosen just now";
  byId("next").replaceChildren(candidateTable(chip));
  byId("next").inert = true; // to write one of these would be another text
}

/** The candidates of the token of `chip`, itself among them. */
export function candidateTable({ dataset }) {
  const table = clone("bars");
  const rows = JSON.parse(dataset.candidates).map((candidate) => {
    return candidateRow(candidate, String(candidate.id) === dataset.id);
  });
  table.tBodies[0].replaceChildren(...rows);
  return table;
}

function candidateRow(candidate, isChosen) {
  const row = clone("bar");
  const [model, sampling] = row.querySelectorAll("meter");
  const [modelShare, samplingShare] = row.querySelectorAll(".share");
  row.classList.toggle("chosen", isChosen);
  row.querySelector(".candidate").dataset.id = candidate.id;
  for (const name of ["piece", "readable", "note"]) {
    row.querySelector(`.${name}`).textContent = candidate[name];
  }
  row.querySelector(".drawn").textContent = isChosen ? candidate.drawn || "chosen" : "";
  model.value = candidate.probability;
  modelShare.textContent = candidate.percent;
  sampling.value = candidate.sampling;
  samplingShare.textContent = candidate.sampling_percent;
  return row;
}
