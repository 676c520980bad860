// Flame graphs, one in a file of its own or several in a page: zoom by a click, search in all of
// them at once, everything by keyboard. Without this script they are complete pictures with hover
// texts.
(function () {
"use strict";

// A row is so high; boxes are one pixel lower.
const ROW = 16;
// As label.rs has them.
const LETTER = 12 * 0.602;
const SMALL_LETTER = 10 * 0.602;
const PADDING = 4;
const MARGIN = 10;

const SVG = "http://www.w3.org/2000/svg";
const alone = document.documentElement.classList.contains("flame");
const field = document.querySelector(".search input");
const found = document.querySelector(".search output");
const pictures = Array.from(document.querySelectorAll(".flame"), picture);

function picture(figure) {
  const canvas = figure.querySelector(".frames");
  const frames = Array.from(canvas.querySelectorAll(".f"), frame);
  const bottom = Math.max(...frames.map((frame) => frame.y));
  for (const frame of frames) frame.row = Math.round((bottom - frame.y) / ROW);
  return {
    figure, canvas, frames,
    whole: Math.max(...frames.map((frame) => frame.w)),
    details: figure.querySelector(".details"),
    heading: figure.dataset.heading,
    keys: Array.from(figure.querySelectorAll(".key[data-role]")),
    open: new Set(),
    zoomed: null,
    current: null,
  };
}

// What a drawn box says of itself: where it lies, in its unit of weight, and its full label.
function frame(element) {
  const rect = element.querySelector("rect");
  const title = element.querySelector("title").textContent;
  const label = title.slice(0, title.lastIndexOf(" ("));
  const chain = element.classList.contains("chain") ? label.replace(/^▸ \d+ frames: /, "").split(" → ") : null;
  return {
    element, rect, title, chain, inner: [],
    text: element.querySelector("text"),
    label: chain ? `▸ ${chain.length} frames: ${chain[0]} … ${chain[chain.length - 1]}` : label,
    names: chain || names(label),
    x: Number(rect.getAttribute("fg:x")),
    w: Number(rect.getAttribute("fg:w")),
    y: Number(rect.getAttribute("y")),
    lift: 0,
  };
}

// A function under its own name and the one it is known by, without what the picture adds.
function names(label) {
  const bare = label.replace(/^[◆▲▼]\d* /, "").replace(/ · [^·]*$/, "");
  const known = / \[([^\]]*)\]$/.exec(bare);
  return known ? [bare.slice(0, known.index), known[1]] : [bare];
}

function fit(label, pixels) {
  const room = (letter) => Math.max(0, Math.floor((pixels - PADDING) / letter));
  if (label.length <= room(LETTER)) return [label, false];
  const name = label.split(" · ")[0].split(" [")[0];
  const bare = name.replace(/^([◆▲▼▸]\d*) /, "$1")
    .replace(/^([◆▲▼▸]\d*)?_+(x64_sys_|arm64_sys_|do_sys_|GI___)?(?=.)/, "$1");
  if (bare.length <= room(LETTER)) return [bare, false];
  const small = room(SMALL_LETTER);
  if (bare.length <= small) return [bare, true];
  if (small < 2) return ["", true];
  return [small < 7 ? bare.slice(0, small) : bare.slice(0, small - 1) + "…", true];
}

// Layout: what is zoomed into has all of the width, what it stands on too, all else is hidden.
function lay(picture, pixels) {
  pixels = pixels || picture.canvas.clientWidth || 1180;
  const all = everyFrame(picture);
  for (const frame of all) frame.lift = 0;
  for (const chain of picture.open) {
    for (const frame of picture.frames) {
      if (frame.row > chain.row && frame.x >= chain.x && frame.x + frame.w <= chain.x + chain.w) {
        frame.lift += chain.chain.length;
      }
    }
  }
  for (const chain of picture.open) for (const inner of chain.inner) inner.lift = chain.lift;
  const height = (frame) => frame.row + frame.lift;
  const zoomed = picture.zoomed || { x: 0, w: picture.whole, row: 0, lift: 0 };
  let top = 0;
  for (const frame of all) {
    const below = height(frame) < height(zoomed);
    const holds = frame.x <= zoomed.x && frame.x + frame.w >= zoomed.x + zoomed.w;
    const within = frame.x >= zoomed.x && frame.x + frame.w <= zoomed.x + zoomed.w;
    frame.shown = below ? holds : within;
    frame.element.classList.toggle("hidden", !frame.shown);
    frame.element.classList.toggle("parent", below && frame.shown);
    if (frame.shown) top = Math.max(top, height(frame));
  }
  for (const frame of all.filter((frame) => frame.shown)) {
    const below = height(frame) < height(zoomed);
    const left = below ? 0 : (frame.x - zoomed.x) / zoomed.w;
    const share = below ? 1 : frame.w / zoomed.w;
    const y = (top - height(frame)) * ROW + 1;
    frame.rect.setAttribute("x", (left * 100).toFixed(4) + "%");
    frame.rect.setAttribute("width", (share * 100).toFixed(4) + "%");
    frame.rect.setAttribute("y", y);
    const [text, small] = fit(frame.label, share * pixels);
    frame.text.textContent = text;
    frame.text.setAttribute("x", ((left + 3 / pixels) * 100).toFixed(4) + "%");
    frame.text.setAttribute("y", y + 10);
    frame.element.classList.toggle("s", small);
  }
  picture.canvas.setAttribute("height", (top + 1) * ROW);
  if (alone) grow(picture, pixels);
}

function everyFrame(picture) {
  return picture.frames.concat(...Array.from(picture.open, (chain) => chain.inner));
}

// A picture in a file of its own is as wide as its window, and as high as it has to be.
function grow({ figure, canvas, details }, pixels) {
  const width = pixels + 2 * MARGIN;
  canvas.setAttribute("width", pixels);
  const bottom = Number(canvas.getAttribute("y")) + Number(canvas.getAttribute("height"));
  details.setAttribute("y", bottom + 17);
  figure.setAttribute("width", "100%");
  figure.setAttribute("height", bottom + 26);
  figure.setAttribute("viewBox", `0 0 ${width} ${bottom + 26}`);
  figure.querySelector(".controls").setAttribute("x", width - 380);
}

// Sentences and legend of a picture in a file of its own, in lines that fit.
function flow({ figure, canvas, keys }, width) {
  let y = 22;
  const sentence = (element) => {
    const words = (element.dataset.all || element.textContent).split(" ");
    element.dataset.all = words.join(" ");
    element.textContent = "";
    let line = null;
    for (const word of words) {
      const longer = line && line.textContent + " " + word;
      if (line) line.textContent = longer;
      if (!line || line.getComputedTextLength() > width - 2 * MARGIN) {
        if (line) line.textContent = longer.slice(0, -word.length - 1);
        line = document.createElementNS(SVG, "tspan");
        line.setAttribute("x", MARGIN);
        line.setAttribute("y", y);
        line.textContent = word;
        element.append(line);
        y += 17;
      }
    }
  };
  const narrow = width < 900;
  if (narrow) y += 30;
  for (const element of figure.querySelectorAll(":scope > text:not(.details)")) {
    sentence(element);
    if (element.classList.contains("title")) y += 4;
  }
  figure.querySelector(".controls").setAttribute("y", 4);
  y += 10;
  let x = MARGIN;
  let any = false;
  for (const key of figure.querySelectorAll(".legend .key")) {
    const [rect, text] = [key.querySelector("rect"), key.querySelector("text")];
    const room = 19 + text.getComputedTextLength();
    if (x > MARGIN && x + room > width - MARGIN) { x = MARGIN; y += 17; }
    rect.setAttribute("x", x);
    rect.setAttribute("y", y - 11);
    text.setAttribute("x", x + 19);
    text.setAttribute("y", y);
    x += room + 22;
    any = true;
  }
  if (any) y += 21;
  for (const element of figure.querySelectorAll(".legend > text")) sentence(element);
  canvas.setAttribute("y", y - 6);
}

function zoom(picture, frame) {
  picture.zoomed = frame && frame.w < picture.whole ? frame : null;
  lay(picture);
}

// A folded chain is opened into its frames, and closed again.
function toggle(picture, chain) {
  if (picture.open.delete(chain)) {
    for (const inner of chain.inner) inner.element.remove();
    if (chain.inner.includes(picture.zoomed)) picture.zoomed = chain;
    if (chain.inner.includes(picture.current)) picture.current = chain;
    chain.inner = [];
  } else {
    const about = chain.title.slice(chain.title.lastIndexOf(" ("));
    chain.inner = chain.chain.map((name, at) => {
      const element = chain.element.cloneNode(true);
      element.classList.remove("chain", "current");
      element.querySelector("title").textContent = name + about;
      chain.element.after(element);
      return Object.assign(frame(element), { row: chain.row + 1 + at });
    });
    picture.open.add(chain);
  }
  lay(picture);
}

// Focus within a picture goes from frame to frame; the picture itself is one stop of the tab key.
function point(picture, frame) {
  if (picture.current) picture.current.element.classList.remove("current");
  picture.current = frame;
  if (frame) frame.element.classList.add("current");
  picture.details.textContent = frame ? frame.title : "\u00a0";
}

const height = (frame) => frame.row + frame.lift;

function below(picture, frame) {
  return everyFrame(picture).find((other) => other.shown && height(other) === height(frame) - 1
    && other.x <= frame.x && other.x + other.w >= frame.x + frame.w);
}

function above(picture, frame) {
  return everyFrame(picture).filter((other) => other.shown && height(other) === height(frame) + 1
    && other.x >= frame.x && other.x + other.w <= frame.x + frame.w)
    .reduce((best, other) => (!best || other.w > best.w ? other : best), null);
}

function beside(picture, frame, step) {
  const row = everyFrame(picture).filter((other) => other.shown && height(other) === height(frame))
    .sort((a, b) => a.x - b.x);
  return row[row.indexOf(frame) + step];
}

function root(picture) {
  return picture.frames.find((frame) => frame.row === 0);
}

function choose(picture, frame) {
  if (frame.chain) toggle(picture, frame);
  else zoom(picture, frame);
}

function key(picture, event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target === field) return;
  const from = picture.current && picture.current.shown ? picture.current : null;
  const go = {
    ArrowUp: () => above(picture, from),
    ArrowDown: () => below(picture, from),
    ArrowLeft: () => beside(picture, from, -1),
    ArrowRight: () => beside(picture, from, 1),
  }[event.key];
  if (go) {
    const to = from ? go() : root(picture);
    if (to) point(picture, to);
    event.preventDefault();
  } else if (event.key === "Enter" && from) {
    choose(picture, from);
    event.preventDefault();
  }
}

// Search: the share of the picture that holds a match, each stack counted once.
function mark(picture, matches) {
  const hits = [];
  for (const frame of everyFrame(picture)) {
    const hit = matches !== null && matches(frame);
    frame.element.classList.toggle("hit", hit);
    if (hit) hits.push(frame);
  }
  picture.canvas.classList.toggle("searched", matches !== null);
  hits.sort((a, b) => a.x - b.x || b.w - a.w);
  let share = 0;
  let end = 0;
  for (const { x, w } of hits) {
    if (x + w <= end) continue;
    share += w;
    end = x + w;
  }
  return { count: hits.length, share: share / picture.whole * 100 };
}

function matcher(term) {
  // As typed in lower case it means either; a pattern that is none yet is taken as it stands.
  const flags = term === term.toLowerCase() ? "iu" : "u";
  let pattern;
  try {
    pattern = new RegExp(term, flags);
  } catch {
    pattern = new RegExp(term.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), flags);
  }
  return (frame) => frame.names.some((name) => pattern.test(name));
}

function press(role) {
  for (const button of pictures.flatMap((picture) => picture.keys)) {
    button.setAttribute("aria-pressed", String(button.dataset.role === role));
  }
}

function search(term) {
  press(null);
  const results = pictures.map((picture) => {
    const { count, share } = mark(picture, term === "" ? null : matcher(term));
    const part = count === 0 ? "no match" : share.toFixed(1) + "%";
    return picture.heading ? `${picture.heading} ${part}` : part;
  });
  found.textContent = term === "" ? "" : results.join(", ");
}

function searchRole(button) {
  const role = button.getAttribute("aria-pressed") === "true" ? null : button.dataset.role;
  field.value = "";
  press(role);
  for (const picture of pictures) {
    mark(picture, role === null ? null : (frame) => frame.element.classList.contains(role));
  }
  // A frame counts whole in a search, with all that it called; the legend has the role's share.
  const text = button.querySelector("text") || button;
  found.textContent = role === null ? "" : text.textContent;
}

function reset() {
  field.value = "";
  search("");
  for (const picture of pictures) {
    for (const chain of picture.open) toggle(picture, chain);
    zoom(picture, null);
    point(picture, null);
  }
}

function fitWindow(picture) {
  const width = Math.max(320, window.innerWidth || 1200);
  flow(picture, width);
  lay(picture, width - 2 * MARGIN);
}

for (const picture of pictures) {
  const of = (event) => {
    const element = event.target.closest(".f");
    return everyFrame(picture).find((frame) => frame.element === element);
  };
  picture.canvas.addEventListener("click", (event) => {
    const frame = of(event);
    if (frame) { point(picture, frame); choose(picture, frame); }
  });
  picture.canvas.addEventListener("mouseover", (event) => {
    const frame = of(event);
    if (frame) picture.details.textContent = frame.title;
  });
  picture.canvas.addEventListener("mouseleave", () => point(picture, picture.current));
  const focused = alone ? document : picture.canvas;
  focused.addEventListener("keydown", (event) => key(picture, event));
  picture.canvas.addEventListener("focus", () => {
    if (!picture.current) point(picture, root(picture));
  });
  for (const button of picture.keys) {
    button.addEventListener("click", () => searchRole(button));
  }
  if (alone) {
    picture.figure.querySelector(".controls").style.display = "block";
    window.addEventListener("resize", () => fitWindow(picture));
    fitWindow(picture);
  } else {
    new ResizeObserver(() => lay(picture)).observe(picture.canvas);
    lay(picture);
  }
  // Labels are cut for the width of the paper; a picture in a file scales with its view box.
  if (!alone) {
    window.addEventListener("beforeprint", () => lay(picture, 680));
    window.addEventListener("afterprint", () => lay(picture));
  }
}
field.addEventListener("input", () => search(field.value));
field.form.addEventListener("submit", (event) => event.preventDefault());
document.querySelector(".reset").addEventListener("click", reset);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "/" && document.activeElement !== field) {
    field.focus();
    field.select();
    event.preventDefault();
  } else if (event.key === "Escape") {
    reset();
  }
});
})();
