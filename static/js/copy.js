// Copy buttons: data-copy names the element whose text goes to the clipboard. Away from
// https and localhost browsers withhold the clipboard; then the text is selected instead.
import { byId } from "./dom.js";

export function start() {
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-copy]");
    if (button) copy(button);
  });
}

async function copy(button) {
  const source = byId(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Selected: now copy";
  }
  setTimeout(() => {
    button.textContent = "Copy";
  }, 2000);
}
