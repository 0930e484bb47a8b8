// Entry point of the page's scripts; each module is one subject. HTML and htmx do the rest.
import * as branch from "./branch.js";
import * as copy from "./copy.js";
import * as details from "./details.js";
import { byId } from "./dom.js";
import * as follow from "./follow.js";
import * as form from "./form.js";
import * as highlight from "./highlight.js";
import * as keyboard from "./keyboard.js";
import * as requests from "./requests.js";
import * as stream from "./stream.js";
import * as views from "./views.js";

// HTML cannot hold a NUL; a prompt that has one comes as JSON besides.
for (const area of document.querySelectorAll("textarea[data-value]")) {
  area.defaultValue = JSON.parse(area.dataset.value);
}
// "Try again" is replaced by what it leads to, and the focus goes there; htmx then keeps it.
document.addEventListener("submit", ({ target }) => target.closest("#model")?.focus());
copy.start();
if (byId("form")) {
  // Later modules see an event after earlier ones: the form is checked before it streams.
  for (const module of [
    branch,
    highlight,
    details,
    requests,
    stream,
    follow,
    form,
    keyboard,
    views,
  ]) {
    module.start();
  }
}
