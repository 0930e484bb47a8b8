// The form: examples, sliders, messages beside fields, tokens that a link keeps, the pace.
import { byId, form, prompt, stored } from "./dom.js";

const oneColumn = matchMedia("(max-width: 61.99rem)");
const touch = matchMedia("(hover: none)");

export function start() {
  form.addEventListener("click", onExample);
  form.addEventListener("input", ({ target }) => {
    // A field that is being corrected loses its message.
    byId(`error-${target.name}`)?.replaceChildren();
    delete byId("next").firstElementChild.dataset.messages;
    target.removeAttribute("aria-invalid");
    if (target.dataset.for) byId(target.dataset.for).value = target.value;
    else showOnSlider(target.id);
    if (target.name === "pace") stored(() => localStorage.setItem("pace", target.value));
  });
  form.addEventListener("focusout", showWrong);
  // Tokens that a link keeps belong to its prompt.
  prompt.addEventListener("input", () => {
    if (prompt.value !== prompt.defaultValue) byId("kept").replaceChildren();
  });
  document.addEventListener("click", ({ target }) => {
    for (const menu of document.querySelectorAll(".menu[open]")) {
      if (!menu.contains(target)) menu.open = false;
    }
  });
  const pace = stored(() => localStorage.getItem("pace"));
  if (pace) form.elements.pace.value = pace;
  // Beside each slider stands a field that the keyboard and screen readers use.
  for (const slider of document.querySelectorAll(".slider")) {
    slider.tabIndex = -1;
    slider.ariaHidden = "true";
  }
  // In one column the settings would stand between the tokens and the result.
  const [message] = form.querySelectorAll("#settings .error:not(:empty)");
  if (oneColumn.matches && !message) byId("settings").open = false;
  showOnSliders();
}

export function showOnSliders() {
  for (const slider of document.querySelectorAll(".slider")) showOnSlider(slider.dataset.for);
}

function showOnSlider(id) {
  const slider = document.querySelector(`[data-for="${id}"]`);
  const value = slider && byId(id).value.replace(",", ".");
  if (value && !isNaN(value)) slider.value = value;
}

function onExample(event) {
  const example = event.target.closest("[data-prompt]");
  if (!example || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  example.closest("details")?.removeAttribute("open");
  setPrompt(example.dataset.prompt || example.textContent);
  if (touch.matches) prompt.blur(); // hides the keyboard
}

/** Replace the prompt as if it had been typed, so that the browser's undo brings it back. */
export function setPrompt(text) {
  prompt.focus({ preventScroll: true });
  prompt.select();
  if (document.execCommand(text ? "insertText" : "delete", false, text)) return;
  prompt.value = text;
  prompt.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Whether special tokens are read in the prompt, if that is not the model's default. */
export function specialTokens() {
  const box = form.querySelector('[name="special_tokens"][type="checkbox"]');
  return box && box.checked !== "default" in box.dataset ? box.checked : undefined;
}

/** What is said of settings where the candidates would be stands beside those that were left. */
export function showWrong() {
  const messages = JSON.parse(byId("next").firstElementChild.dataset.messages ?? "{}");
  for (const [name, message] of Object.entries(messages)) {
    if (document.activeElement.name !== name) byId(`error-${name}`).textContent = message;
  }
  markInvalid(false);
}

/** Mark the fields that have a message beside them; optionally focus the first. */
export function markInvalid(focus) {
  let first = null;
  for (const input of form.querySelectorAll("[name]")) {
    if (byId(`error-${input.name}`)?.textContent.trim()) {
      input.setAttribute("aria-invalid", "true");
      first ??= input;
    } else {
      input.removeAttribute("aria-invalid");
    }
  }
  if (!first || !focus) return;
  const folded = first.closest("details");
  if (folded) folded.open = true;
  first.focus();
}
