// Keep the end of the text in sight while it is written, unless the reader goes elsewhere;
// bring the result into sight where the window has one column.
//
// What the reader wants is read from wheel, touch, keys and scroll bar only. A scroll event
// says nothing: it may come from `followNewest`, or from a page that got shorter.
import { byId } from "./dom.js";

const SHARE = 0.7; // the end of the text stays above this part of the window's height
const UP = -1;
const DOWN = 1;
/** Keys that move the window or the focus. */
const KEYS = {
  ArrowUp: UP,
  PageUp: UP,
  Home: UP,
  Tab: UP,
  ArrowDown: DOWN,
  PageDown: DOWN,
  End: DOWN,
  " ": DOWN,
};
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
let follows = true;
let isComingBack = false; // following starts again where the reader reaches the end of the text
let touchY = 0;
let scheduled = false;

export function start() {
  const passive = { passive: true };
  addEventListener("wheel", ({ deltaY }) => onReader(Math.sign(deltaY)), passive);
  addEventListener("touchstart", ({ touches }) => (touchY = touches[0].clientY), passive);
  addEventListener("touchmove", onTouchMove, passive);
  addEventListener("keydown", ({ key, target }) => {
    const isTyping = target.matches("input, textarea") && key !== "Tab";
    if (!isTyping) onReader(KEYS[key]);
  });
  addEventListener("pointerdown", onPress);
  addEventListener("scroll", followAtEnd);
  new MutationObserver(() => {
    if (byId("problem").firstElementChild) reveal();
  }).observe(byId("problem"), { childList: true });
}

/** The reader goes up, down, or elsewhere in no direction. */
function onReader(direction) {
  if (direction === UP) {
    follows = false;
    isComingBack = false;
  } else if (direction === DOWN) {
    isComingBack = !follows;
    followAtEnd();
  }
}

function onTouchMove({ touches: [{ clientY }] }) {
  onReader(Math.sign(touchY - clientY));
  touchY = clientY;
}

/** Outside of what the window shows lies its scroll bar: where it is left, counts. */
function onPress({ clientX }) {
  if (clientX < document.documentElement.clientWidth) return;
  onReader(UP);
  addEventListener("pointerup", () => onReader(DOWN), { once: true });
}

function followAtEnd() {
  if (isComingBack && distance() <= 1) followAgain();
}

export function followAgain() {
  follows = true;
  isComingBack = false;
}

/** How far the end of the text lies below its place in the window. */
const distance = () => byId("text").getBoundingClientRect().bottom - SHARE * innerHeight;

/** Once a frame, as reading heights makes the browser lay the page out: `draw`, then scroll. */
export function followNewest(draw) {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    draw();
    if (follows && distance() > 1) scrollBy({ top: distance(), behavior: "instant" });
  });
}

/** Bring the result into sight. */
export function reveal() {
  const { top, bottom } = byId("result").getBoundingClientRect();
  if (top >= 0 && (top < innerHeight / 4 || bottom < innerHeight)) return;
  byId("result").scrollIntoView({ behavior: reducedMotion.matches ? "instant" : "smooth" });
}
