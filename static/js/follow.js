// Keep the newest token in sight, unless the reader scrolled up; bring the result into
// sight where the window has one column.
import { byId } from "./dom.js";

const following = new Map(); // scrolling box -> whether it follows its end
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
let scheduled = false;

export function start() {
  for (const id of ["text", "strip"]) watch(byId(id));
  new MutationObserver(() => {
    if (byId("problem").firstElementChild) reveal();
  }).observe(byId("problem"), { childList: true });
}

export function followAgain() {
  for (const box of following.keys()) following.set(box, true);
}

/** Scroll to the end, once a frame: reading heights makes the browser lay the page out. */
export function followNewest() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    for (const [box, follows] of following) if (follows) box.scrollTop = box.scrollHeight;
  });
}

/** Bring the result into sight. */
export function reveal() {
  const { top } = byId("result").getBoundingClientRect();
  if (top >= 0 && top < innerHeight / 2) return;
  byId("result").scrollIntoView({ behavior: reducedMotion.matches ? "instant" : "smooth" });
}

// Being away from the end says nothing by itself: more may have come since the last scroll.
function watch(box) {
  let last = 0;
  following.set(box, true);
  box.addEventListener("scroll", () => {
    const at = box.scrollTop;
    const left = box.scrollHeight - at - box.clientHeight;
    if (left < 2 || (left < 24 && at >= last)) following.set(box, true);
    else if (at < last) following.set(box, false);
    last = at;
  });
  // At once, or the next token's scroll undoes the reader's own.
  box.addEventListener(
    "wheel",
    ({ deltaY }) => {
      if (deltaY < 0 && box.scrollTop > 0) following.set(box, false);
    },
    { passive: true },
  );
}
