// Small helpers over the document. No module state.

export const byId = (id) => document.getElementById(id);

// What most modules work on. Other pages than the main one have neither.
export const form = byId("form");
export const prompt = byId("prompt");

/** A new element with these properties and children. */
export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The element inside the `<template>` with this id, copied. */
export const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** A paragraph that is announced. */
export const problem = (message) =>
  make("p", { className: "problem", role: "alert", textContent: message });

/** Tell a screen reader. */
export function say(message) {
  byId("said").textContent = message;
}

/** What `access` returns, or null where pages may not store anything. */
export function stored(access) {
  try {
    return access();
  } catch {
    return null;
  }
}

// The server counts characters as Unicode does; strings here count UTF-16 units.
export function unitsOf(string, characters) {
  return Array.from(string).slice(0, characters).join("").length;
}

export function charactersOf(string, units) {
  return Array.from(string.slice(0, units)).length;
}

/** What shows a token: its chip, or the piece of running text that it is part of. */
export const TOKEN = ".strip .chip, .running [data-first], #text [data-first]";

/** The chip that `node` lies in or whose text it shows, or null. */
export function chipAt(node) {
  const token = node?.closest?.(TOKEN);
  if (!token?.dataset.first) return token ?? null;
  const strip = byId(token.closest("#text") ? "strip" : "prompt-strip");
  return strip?.querySelector(`[data-index="${token.dataset.first}"]`) ?? null;
}

/** Where the strip of `chip` is shown as running text, the pieces of that. */
export function runningOf(chip) {
  const running = byId(chip.closest("#strip") ? "text" : "prompt-running");
  return [...running.querySelectorAll("[data-first]")];
}

export const isInText = () => document.documentElement.dataset.view === "text";

/** What shows the token of `chip`: in the text, the piece that it is part of. */
export function shownAs(chip) {
  const isPart = ({ dataset }) => Number(dataset.last) >= Number(chip.dataset.index);
  return isInText() ? runningOf(chip).find(isPart) : chip;
}

/** The chips of the text that is shown. */
export const resultChips = (selector = ".chip") => [...byId("strip").querySelectorAll(selector)];

/** Ids of the generated tokens before the token `index`: the form's field `kept`. */
export function generatedIds(index = Infinity) {
  return resultChips(".generated")
    .filter((chip) => Number(chip.dataset.index) < index)
    .map((chip) => chip.dataset.id);
}

export const focusText = () => byId("text").focus({ preventScroll: true });

export const pace = () => form.elements.pace.value;
