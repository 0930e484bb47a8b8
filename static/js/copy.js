// Taking away: texts, links and ids to the clipboard, tokens as files. Away from https and
// localhost browsers withhold the clipboard; then the text is selected instead.
import { byId, form, generatedIds, prompt, resultChips, say } from "./dom.js";
import { specialTokens } from "./form.js";
import { state } from "./state.js";

const LABEL_MS = 2000;
const MAX_LINK = 8000; // characters that servers take

export function start() {
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    const { copy: id, link, take } = button?.dataset ?? {};
    if (id) copy(button, byId(id).textContent, byId(id));
    else if (link !== undefined) copyLink(button, link || shownLink());
    else if (take) takes[take](button, button.closest(".take").dataset.of);
  });
}

async function copy(button, text, source) {
  const label = button.dataset.label ?? button.textContent;
  button.dataset.label = label;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source ?? showCopied(text));
    button.textContent = "Selected: now copy";
  }
  say(button.textContent);
  setTimeout(() => {
    button.textContent = label;
  }, LABEL_MS);
}

function showCopied(text) {
  const box = byId("copied");
  box.textContent = text;
  box.hidden = false;
  document.addEventListener("copy", () => setTimeout(() => (box.hidden = true)), { once: true });
  return box;
}

function copyLink(button, link) {
  if (link.length <= MAX_LINK) return copy(button, link);
  byId("status").textContent = "The text is too long for a link: take its tokens as a file.";
}

/** A link to a text that was stopped, cut back or edited: its tokens are kept. */
function shownLink() {
  const link = new URL(byId("start").href);
  for (const [name, value] of new FormData(form)) {
    if (!["pace", "kept", "seed", "scores"].includes(name)) link.searchParams.set(name, value);
  }
  if (state.source) link.searchParams.set("prompt", state.source.prompt);
  link.searchParams.set("kept", generatedIds().join(","));
  return link.href;
}

/** The prompt as far as it is tokenized. */
function promptText() {
  const { value } = prompt;
  const limit = byId("left-out")?.dataset.chars;
  return limit ? Array.from(value).slice(0, limit).join("") : value;
}

const tokenizeUrl = () => new URL(byId("prompt").getAttribute("hx-post"), location);
const tokenizeBody = () => ({ prompt: promptText(), special_tokens: specialTokens() });

/** What can be taken of the prompt, or of the text that is shown ("text"). */
const takes = {
  ids: async (button, of) => copy(button, (await idsOf(of)).join(", ")),
  json: (button, of) => download("json", of),
  csv: (button, of) => download("csv", of),
  curl: (button) => copy(button, curl(JSON.stringify(tokenizeBody()))),
};

// WebKit copies nothing after an answer: the server is asked for long prompts only.
async function idsOf(of) {
  const strip = byId(of === "text" ? "strip" : "prompt-strip");
  const ids = [...strip.querySelectorAll(".chip")].map((chip) => chip.dataset.id);
  if (of === "text" || !byId("undrawn")) return ids;
  const response = await fetch(tokenizeUrl(), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(tokenizeBody()),
  });
  return (await response.json()).tokens.map(({ id }) => id);
}

/** By POST, because a long text does not fit into an address. */
function download(kind, of) {
  const fields = byId("export");
  const ofText = of === "text";
  const generated = ofText ? resultChips(".generated") : [];
  fields.elements.prompt_json.value = JSON.stringify(ofText ? state.source.prompt : promptText());
  fields.elements.special_tokens.value = { true: "1", false: "0" }[specialTokens()] ?? "";
  fields.elements.kept.value = generated.map((chip) => chip.dataset.id);
  fields.elements.logprobs.value = generated.map((chip) => chip.dataset.logprob ?? "");
  fields.action = fields.action.replace(/\w+$/, kind);
  fields.submit();
}

/** A command line for a POSIX shell. Characters that a terminal would change are escaped. */
function curl(body) {
  const visible = body.replace(/[^\P{C}\n]|[^\P{Z} ]/gu, (char) => {
    return Array.from({ length: char.length }, (_, at) => {
      return `\\u${char.charCodeAt(at).toString(16).padStart(4, "0")}`;
    }).join("");
  });
  const quoted = `'${visible.replaceAll("'", "'\\''")}'`;
  return `curl -sS ${tokenizeUrl()} -H 'Content-Type: application/json' -d ${quoted}`;
}
