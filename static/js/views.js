// How chips are shown; the choice is remembered where the browser allows it.

export function start() {
  const saved = remembered(() => localStorage.getItem("view"));
  for (const radio of document.querySelectorAll('input[name="view"]')) {
    if (radio.value === saved) radio.checked = true;
    radio.addEventListener("change", () => {
      show(radio.value);
      remembered(() => localStorage.setItem("view", radio.value));
    });
  }
  show(saved ?? "piece");
}

function show(view) {
  document.documentElement.dataset.view = view;
}

/** What `access` returns, or null where pages may not remember anything. */
function remembered(access) {
  try {
    return access();
  } catch {
    return null;
  }
}
