// How tokens are shown; the choice is remembered where the browser allows it.
import { byId, make, stored } from "./dom.js";

export function start() {
  const saved = stored(() => localStorage.getItem("view"));
  for (const radio of document.querySelectorAll('input[name="view"]')) {
    if (radio.value === saved) radio.checked = true;
    radio.addEventListener("change", () => {
      show(radio.value);
      stored(() => localStorage.setItem("view", radio.value));
    });
  }
  byId("form").addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
    if (ctx.sourceElement === byId("prompt")) drawRunning();
  });
  show(saved ?? "piece");
}

function show(view) {
  document.documentElement.dataset.view = view;
  drawRunning();
}

/** The prompt as running text with coloured tokens. The text of the result is always there. */
function drawRunning() {
  if (document.documentElement.dataset.view !== "text") return;
  const characters = Array.from(byId("prompt").value);
  const items = [...(byId("prompt-strip")?.children ?? [])];
  byId("prompt-running").replaceChildren(...items.map((item) => running(item, characters)));
}

function running(item, characters) {
  const chips = item.querySelectorAll(".chip");
  const { index, start: first } = chips[0].dataset;
  const { end } = chips[chips.length - 1].dataset;
  const span = make("span", { textContent: characters.slice(first, end).join("") });
  span.className = `c${chips[0].className.match(/\bc(\d)\b/)[1]}`;
  span.dataset.first = index;
  span.dataset.last = chips[chips.length - 1].dataset.index;
  return span;
}
