// Keep the end of the text in sight while it is written, unless the reader scrolled away;
// bring the result into sight where the window has one column.
import { byId } from "./dom.js";

const SHARE = 0.7; // the end of the text stays above this part of the window's height
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
let follows = true;
let scheduled = false;
let lastY = 0;

export function start() {
  addEventListener("scroll", () => {
    // At the end of the page a shorter page moves the window up, not the reader.
    const isAtEnd = scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
    if (scrollY < lastY && !isAtEnd) follows = false;
    else if (distance() <= 1) follows = true;
    lastY = scrollY;
  });
  // At once, or the next token's scroll undoes the reader's own.
  const onWheel = ({ deltaY }) => {
    if (deltaY < 0) follows = false;
  };
  addEventListener("wheel", onWheel, { passive: true });
  new MutationObserver(() => {
    if (byId("problem").firstElementChild) reveal();
  }).observe(byId("problem"), { childList: true });
}

export function followAgain() {
  follows = true;
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
