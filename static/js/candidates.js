// Candidates as a table, and as a way to write: what comes next, what else might have come.
import { byId, clone, generatedIds, resultChips } from "./dom.js";
import { CHANGED, state } from "./state.js";
import { isOfPrompt, writeByHand } from "./text.js";

const HEADING = "What comes next?";

export function start() {
  const next = byId("next");
  next.addEventListener("htmx:config:request", (event) => {
    // While a text is written, the table is that of its newest token.
    if (state.running) event.preventDefault();
    if (isOfPrompt()) event.detail.ctx.request.body.set("kept", generatedIds().join(","));
  });
  next.addEventListener("click", ({ target }) => {
    const button = target.closest(".candidate");
    if (button) writeByHand(button.dataset.id);
  });
  byId("more-candidates").addEventListener("click", ({ target }) => {
    const isAll = byId("result").classList.toggle("all-candidates");
    target.textContent = isAll ? "Show five" : "Show ten";
  });
  // Candidates of a prompt that has changed must not be chosen.
  byId("prompt").addEventListener("input", () => {
    next.inert = true;
  });
  document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx.target !== next) return;
    byId("next-heading").textContent = HEADING;
    next.inert = false;
  });
  byId("form").addEventListener(CHANGED, () => showChosen(resultChips(".generated").at(-1)));
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
  row.querySelector(".piece").textContent = candidate.piece;
  row.querySelector(".readable").textContent = candidate.readable;
  row.querySelector(".note").textContent = candidate.note;
  row.querySelector(".drawn").textContent = isChosen ? candidate.drawn || "chosen" : "";
  model.value = candidate.probability;
  modelShare.textContent = candidate.percent;
  sampling.value = candidate.sampling;
  samplingShare.textContent = candidate.sampling_percent;
  return row;
}
