// The strip and the text are one thing: hovering, focusing or selecting one lights up the
// other; a chip opens a card that says what the token is and, where the model chose it,
// what else it might have been.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const form = $("form"), prompt = $("prompt"), mirror = $("mirror");
  const text = $("text"), strip = $("strip"), card = $("card");
  if (!form) return;

  // The server counts characters as Unicode does; strings here count UTF-16 units.
  const units = (string, characters) => Array.from(string).slice(0, characters).join("").length;
  const characters = (string, unit) => Array.from(string.slice(0, unit)).length;
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // --- lighting up -------------------------------------------------------------------
  const toggle = (element, lit) => element.classList.toggle("lit", lit);
  const lightResult = (first, last) => {
    for (const chip of strip.querySelectorAll("[data-index]")) {
      toggle(chip, chip.dataset.index >= first && chip.dataset.index <= last);
    }
    for (const span of text.querySelectorAll("[data-first]")) {
      toggle(span, span.dataset.first <= last && span.dataset.last >= first);
    }
  };
  const lightPromptChips = (start, end) => {
    for (const chip of document.querySelectorAll("#prompt-strip [data-index]")) {
      toggle(chip, chip.dataset.start < end && chip.dataset.end > start);
    }
  };
  const lightPrompt = (start, end) => {
    lightPromptChips(start, end);
    const value = prompt.value, from = units(value, start), to = units(value, end);
    mirror.replaceChildren(value.slice(0, from), make("mark", { textContent: value.slice(from, to) }), value.slice(to), "\n");
    mirror.scrollTop = prompt.scrollTop;
  };
  const dark = () => {
    lightResult(1, 0);
    lightPromptChips(0, 0);
    mirror.replaceChildren();
  };
  const lightChip = (chip) => {
    dark();
    if (strip.contains(chip)) {
      const members = [...(chip.closest(".group") ?? chip.parentElement).querySelectorAll(".chip")];
      const index = Number(chip.dataset.index);
      lightResult(index, index);
      for (const span of text.querySelectorAll("[data-first]")) {
        toggle(span, Number(span.dataset.first) <= index && Number(span.dataset.last) >= Number(members[0].dataset.index));
      }
    } else {
      lightPrompt(Number(chip.dataset.start), Number(chip.dataset.end));
    }
  };
  const chipAt = (node) => node.closest?.(".strip .chip");

  document.addEventListener("pointerover", ({ target }) => {
    const chip = chipAt(target), span = target.closest?.("#text [data-first]");
    if (chip) {
      lightChip(chip);
      showCard(chip);
    } else if (span) {
      lightResult(Number(span.dataset.first), Number(span.dataset.last));
    } else if (!card.contains(target)) {
      dark();
      if (!pinned) hideCard();
    }
  });
  document.addEventListener("focusin", ({ target }) => {
    const chip = chipAt(target);
    if (chip) {
      lightChip(chip);
      showCard(chip);
    }
  });
  document.addEventListener("selectionchange", () => {
    if (document.activeElement === prompt) {
      const { value, selectionStart, selectionEnd } = prompt;
      if (selectionStart === selectionEnd) lightPromptChips(0, 0);
      else lightPromptChips(characters(value, selectionStart), characters(value, selectionEnd));
      return;
    }
    const selection = getSelection();
    if (selection.isCollapsed || !text.contains(selection.anchorNode)) return;
    const spans = [...text.querySelectorAll("[data-first]")].filter((span) => selection.containsNode(span, true));
    if (spans.length) lightResult(Number(spans[0].dataset.first), Number(spans.at(-1).dataset.last));
  });
  prompt.addEventListener("input", dark);
  prompt.addEventListener("scroll", () => { mirror.scrollTop = prompt.scrollTop; });

  // --- the card ----------------------------------------------------------------------
  let owner = null; // the chip whose card is shown
  let pinned = false; // opened on purpose: stays until closed, and holds the focus

  const hideCard = (refocus) => {
    card.hidden = true;
    owner?.removeAttribute("aria-describedby");
    if (refocus) owner?.focus();
    owner = null;
    pinned = false;
  };
  const showCard = (chip, pin = false) => {
    if (pinned && !pin) return;
    owner?.removeAttribute("aria-describedby");
    owner = chip;
    pinned = pin;
    card.replaceChildren(...describe(chip, pin));
    card.classList.toggle("pinned", pin);
    card.setAttribute("role", pin ? "dialog" : "tooltip");
    if (!pin) chip.setAttribute("aria-describedby", "card");
    card.hidden = false;
    const at = chip.getBoundingClientRect(), room = document.documentElement.clientWidth;
    const below = at.bottom + 6 + card.offsetHeight < innerHeight;
    card.style.left = `${Math.max(8, Math.min(at.left, room - card.offsetWidth - 8))}px`;
    card.style.top = `${Math.max(8, below ? at.bottom + 6 : at.top - 6 - card.offsetHeight)}px`;
    if (pin) card.querySelector("a, button").focus();
  };

  const visible = (string) => string.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥");
  const describe = (chip, pin) => {
    const { bytes, start, end, rank, id, candidates } = chip.dataset;
    const data = Uint8Array.from(bytes.match(/../g) ?? [], (pair) => parseInt(pair, 16));
    const shared = chip.closest(".group")?.dataset.text;
    let own = null;
    try {
      own = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
    } catch { /* only part of a character */ }
    const shown = own ?? shared ?? "";
    const facts = {
      Text: own !== null ? `“${visible(own)}”` : shared ? `part of “${visible(shared)}”` : "not a whole character",
      Bytes: bytes.replace(/../g, "$& ").trim(),
      "Code points": Array.from(shown, (c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`).slice(0, 8).join(" "),
      Characters: end - start > 1 ? `${start} to ${end - 1}` : start,
      "Made by": rank !== undefined ? `merge rank ${Number(rank).toLocaleString("en")} of 50,000` : data.length === 1 ? "no merge: a single byte" : "no merge: a special token",
      Id: Number(id).toLocaleString("en"),
    };
    const list = make("dl", {});
    for (const [name, value] of Object.entries(facts)) {
      if (value !== "") list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
    }
    const parts = [
      make("p", { className: "card-title" }, make("span", { className: "piece", textContent: chip.querySelector(".piece").textContent })),
      list,
    ];
    if (!pin) return [...parts, make("p", { className: "hint", textContent: candidates ? "Click to see what else it might have been." : "Click for more." })];
    parts.push(make("p", {}, make("a", { href: `/bpe?${new URLSearchParams({ text: shown })}`, textContent: "How BPE got there" })));
    if (candidates) parts.push(...alternatives(chip, JSON.parse(candidates)));
    return parts;
  };

  // --- what else it might have been --------------------------------------------------
  const percent = (p) => (p >= 0.0995 ? `${Math.round(100 * p)}%` : p >= 0.0005 ? `${(100 * p).toFixed(1)}%` : "<0.1%");
  const alternatives = (chip, candidates) => {
    const rows = candidates.map(([id, piece, probability]) => {
      const meter = make("meter", { min: 0, max: 1, value: probability });
      meter.setAttribute("aria-label", percent(probability));
      const button = make("button", { type: "button", className: "candidate", title: "Go on from here with this token" },
        make("span", { className: "piece", textContent: piece }));
      button.addEventListener("click", () => goOn([...madeIds(chip.dataset.index), id]));
      const chosen = String(id) === chip.dataset.id ? " chosen" : "";
      return make("li", { className: chosen }, button, meter, make("span", { textContent: percent(probability) + chosen }));
    });
    const keep = make("button", { type: "button", textContent: "Cut the text after this token" });
    keep.addEventListener("click", () => cutAfter(chip));
    return [
      make("p", { className: "card-head", textContent: "The model’s ten likeliest here; choose one to branch off" }),
      make("ol", { className: "alternatives" }, ...rows),
      keep,
    ];
  };
  const madeChips = () => [...strip.querySelectorAll(".generated")];
  const madeIds = (before = Infinity) => madeChips().filter((c) => Number(c.dataset.index) < before).map((c) => c.dataset.id);

  // A button that submits the form with these tokens kept, as the server's own do.
  const keepButton = (ids, label) => {
    const button = make("button", { name: "kept", value: ids.join(","), textContent: label });
    button.setAttribute("form", "form");
    return button;
  };
  const goOn = (ids) => {
    hideCard();
    const button = keepButton(ids, "Continue");
    $("after").replaceChildren(button);
    form.requestSubmit(button);
  };
  const cutAfter = (chip) => {
    const last = Number(chip.dataset.index);
    hideCard();
    form.dispatchEvent(new Event("glyph:halt"));
    for (const made of madeChips()) if (Number(made.dataset.index) > last) made.remove();
    for (const item of strip.querySelectorAll("li")) if (!item.querySelector(".chip")) item.remove();
    for (const span of text.querySelectorAll(".made")) if (Number(span.dataset.last) > last) span.remove();
    $("after").replaceChildren(keepButton(madeIds(), "Continue from here"));
    $("status").textContent = `Cut back to ${madeIds().length} generated tokens.`;
    $("candidates").replaceChildren();
    chip.focus();
  };

  // Tokens that are kept belong to the prompt they were made from, whatever has been typed.
  form.addEventListener("submit", ({ submitter }) => {
    if (submitter?.name === "kept" && submitter.closest("#after") && $("prompt-text").textContent) {
      prompt.value = $("prompt-text").textContent;
      prompt.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }, true);

  // A stream that goes on draws kept chips anew, without what the model thought of them;
  // that is still on the page.
  let remembered = new Map();
  form.addEventListener("htmx:before:request", ({ target }) => {
    if (target === form) remembered = new Map(madeChips().map((c) => [c.dataset.index, c]));
  });
  form.addEventListener("htmx:after:swap", ({ detail }) => {
    if (detail.ctx.sourceElement !== form || !remembered.size) return;
    for (const chip of strip.querySelectorAll(".generated:not([data-candidates])")) {
      const before = remembered.get(chip.dataset.index);
      if (!before?.dataset.candidates) continue;
      chip.dataset.candidates = before.dataset.candidates;
      const mine = JSON.parse(before.dataset.candidates).find(([id]) => String(id) === chip.dataset.id);
      if (!mine) continue;
      chip.classList.replace("p0", `p${Math.round(10 * mine[2])}`);
      chip.append(make("span", { className: "probability", textContent: percent(mine[2]) }));
    }
    remembered = new Map();
  });

  // --- clicking and the keyboard -----------------------------------------------------
  document.addEventListener("click", (event) => {
    const chip = chipAt(event.target);
    if (!chip) {
      if (pinned && !card.contains(event.target)) hideCard();
      return;
    }
    rove(chip);
    const mouse = event.pointerType === "mouse";
    if (!strip.contains(chip)) {
      const { value } = prompt;
      prompt.setSelectionRange(units(value, chip.dataset.start), units(value, chip.dataset.end));
      if (mouse) return prompt.focus({ preventScroll: true });
    }
    showCard(chip, true);
  });
  const rove = (chip) => {
    for (const other of chip.closest(".strip").querySelectorAll('.chip[tabindex="0"]')) other.tabIndex = -1;
    chip.tabIndex = 0;
  };
  const inRow = (chips, at, step) => {
    const from = chips[at].getBoundingClientRect();
    const away = chips.filter((c) => step * (c.getBoundingClientRect().top - from.top) > from.height / 2);
    const row = away.length ? (step > 0 ? away[0] : away.at(-1)).getBoundingClientRect().top : null;
    const distance = (c) => Math.abs(c.getBoundingClientRect().left - from.left);
    return away.filter((c) => Math.abs(c.getBoundingClientRect().top - row) < from.height / 2)
      .sort((a, b) => distance(a) - distance(b))[0];
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !card.hidden) {
      event.stopImmediatePropagation(); // the first Esc closes the card, the next one stops
      return hideCard(true);
    }
    const chip = chipAt(document.activeElement ?? document.body);
    if (!chip) return;
    const chips = [...chip.closest(".strip").querySelectorAll(".chip")], at = chips.indexOf(chip);
    const next = {
      ArrowRight: () => chips[at + 1],
      ArrowLeft: () => chips[at - 1],
      ArrowDown: () => inRow(chips, at, 1),
      ArrowUp: () => inRow(chips, at, -1),
      Home: () => chips[0],
      End: () => chips.at(-1),
    }[event.key];
    if (!next) return;
    event.preventDefault();
    const target = next();
    if (target) {
      rove(target);
      target.focus();
    }
  }, true);

  // --- how chips are shown -----------------------------------------------------------
  const show = (view) => { document.documentElement.dataset.view = view; };
  const saved = localStorage.getItem("view");
  for (const radio of document.querySelectorAll('input[name="view"]')) {
    if (radio.value === saved) radio.checked = true;
    radio.addEventListener("change", () => {
      show(radio.value);
      localStorage.setItem("view", radio.value);
    });
  }
  show(saved ?? "piece");
})();
