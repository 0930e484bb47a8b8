// A reload keeps the prompt, the settings and the text; a link to a shared text shows it.
import { byId, form, prompt, stored } from "./dom.js";
import { showOnSliders } from "./form.js";
import { RETRY, state } from "./state.js";
import { capture, restore } from "./text.js";

const key = () => `page ${location.href}`;

export function start() {
  setTimeout(open); // after htmx, which starts in a timer of its own
}

function open() {
  addEventListener("pagehide", save);
  const [navigation] = performance.getEntriesByType("navigation");
  const saved =
    navigation?.type === "navigate" ? null : stored(() => sessionStorage.getItem(key()));
  if (saved) reopen(JSON.parse(saved));
  else if (form.dataset.shared !== undefined) showShared();
}

function save() {
  const fields = Object.fromEntries(new FormData(form));
  const page = { fields, text: capture() };
  stored(() => sessionStorage.setItem(key(), JSON.stringify(page)));
}

function reopen({ fields, text }) {
  const { elements } = form;
  for (const [name, value] of Object.entries(fields))
    if (elements[name]) elements[name].value = value;
  showOnSliders();
  prompt.dispatchEvent(new Event(RETRY));
  restore(text);
}

/** The text that a link describes, as soon as there is a model. */
function showShared() {
  if (!byId("model").hasAttribute("data-ready")) {
    document.addEventListener("htmx:after:swap", showShared, { once: true });
    return;
  }
  const atOnce = ({ detail: { ctx } }) => {
    ctx.request.body.set("pace", "full");
    state.sent.isOfLink = true;
  };
  form.addEventListener("htmx:config:request", atOnce, { once: true });
  form.requestSubmit();
}
