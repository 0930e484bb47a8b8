// The form: examples, messages beside fields, tokens that a link keeps.
import { byId } from "./dom.js";

export function start() {
  const form = byId("form");
  const prompt = byId("prompt");
  form.addEventListener("click", (event) => {
    const example = event.target.closest("[data-prompt]");
    if (!example || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    setPrompt(example.dataset.prompt);
    prompt.focus();
  });
  // A field that is being corrected loses its message.
  form.addEventListener("input", ({ target }) => {
    byId(`error-${target.name}`)?.replaceChildren();
    target.removeAttribute("aria-invalid");
  });
  // Tokens that a link keeps belong to its prompt.
  prompt.addEventListener("input", () => {
    if (prompt.value !== prompt.defaultValue) byId("kept").replaceChildren();
  });
}

/** Replace the prompt, as if it had been typed. */
export function setPrompt(text) {
  const prompt = byId("prompt");
  prompt.value = text;
  prompt.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Mark the fields that have a message beside them; optionally focus the first. */
export function markInvalid(focus) {
  let first = null;
  for (const input of byId("form").querySelectorAll("[name]")) {
    if (byId(`error-${input.name}`)?.textContent.trim()) {
      input.setAttribute("aria-invalid", "true");
      first ??= input;
    } else {
      input.removeAttribute("aria-invalid");
    }
  }
  if (focus) first?.focus();
}
