// Entry point of the page's scripts; each module is one subject.
import * as candidates from "./candidates.js";
import * as copy from "./copy.js";
import * as details from "./details.js";
import { byId } from "./dom.js";
import * as follow from "./follow.js";
import * as form from "./form.js";
import * as highlight from "./highlight.js";
import * as keyboard from "./keyboard.js";
import * as requests from "./requests.js";
import * as session from "./session.js";
import * as stream from "./stream.js";
import * as strip from "./strip.js";
import * as text from "./text.js";
import * as views from "./views.js";

// HTML cannot hold a NUL, so a text with one is also in data-value, as JSON.
for (const area of document.querySelectorAll("textarea[data-value]")) {
  area.defaultValue = JSON.parse(area.dataset.value);
}
// "Try again" is replaced by what it leads to, and the focus goes there; htmx then keeps it.
document.addEventListener("submit", ({ target }) => target.closest("#model")?.focus());
copy.start();
if (byId("form")) {
  // Listeners run in this order: the text is taken over before its candidates are shown.
  const modules = [form, text, strip, highlight, candidates, details, requests, stream];
  for (const module of [...modules, follow, keyboard, views, session]) module.start();
} else {
  document.addEventListener("keydown", ({ key, ctrlKey, metaKey, target }) => {
    if (key === "Enter" && (ctrlKey || metaKey)) target.form?.requestSubmit();
  });
}
