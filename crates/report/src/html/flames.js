// Flame graphs of a page: zoom by a click, search in all of them at once, everything by keyboard.
// Without this script they are complete pictures with hover texts.
(function () {
"use strict";

// Percent of the width: x and width of neighbours are rounded to four places.
const EPSILON = 0.001;
const LEAST_TEXT = 24;

const field = document.getElementById("search");
const found = document.getElementById("found");
const pictures = Array.from(document.querySelectorAll("figure.flame"), picture);

function picture(figure) {
  const canvas = figure.querySelector("svg.frames");
  const frames = Array.from(canvas.querySelectorAll("svg.f"), (element) => {
    const text = element.lastElementChild;
    return {
      element, text,
      label: text.textContent,
      title: element.querySelector("title").textContent,
      names: element.dataset.names.split("\n"),
      role: element.dataset.role,
      x: parseFloat(element.getAttribute("x")),
      width: parseFloat(element.getAttribute("width")),
      y: parseFloat(element.getAttribute("y")),
    };
  });
  return {
    figure, canvas, frames,
    details: figure.querySelector(".details"),
    heading: figure.dataset.heading,
    keys: Array.from(figure.querySelectorAll(".keys button")),
    zoomed: null,
    current: null,
  };
}

// Layout: what is zoomed into has all of the width, what it stands on too, all else is hidden.
function lay(picture) {
  const { x, width, y } = picture.zoomed || { x: 0, width: 100, y: Infinity };
  const pixels = picture.canvas.clientWidth || 1180;
  for (const frame of picture.frames) {
    const below = frame.y > y;
    const holds = frame.x <= x + EPSILON && frame.x + frame.width >= x + width - EPSILON;
    const within = frame.x >= x - EPSILON && frame.x + frame.width <= x + width + EPSILON;
    frame.shown = below ? holds : within;
    frame.element.classList.toggle("hidden", !frame.shown);
    frame.element.classList.toggle("parent", below && frame.shown);
    if (!frame.shown) continue;
    const left = below ? 0 : (frame.x - x) / width * 100;
    const share = below ? 100 : frame.width / width * 100;
    frame.element.setAttribute("x", left.toFixed(4) + "%");
    frame.element.setAttribute("width", share.toFixed(4) + "%");
    fit(frame, share / 100 * pixels);
  }
}

// Text is as wide as its letters, which are all the same in this font.
const letter = (function () {
  const canvas = pictures[0].canvas;
  const probe = document.createElementNS(canvas.namespaceURI, "text");
  probe.textContent = "0".repeat(50);
  canvas.appendChild(probe);
  const width = probe.getComputedTextLength() / 50;
  probe.remove();
  return width || 7.3;
})();

function fit(frame, pixels) {
  const room = Math.floor((pixels - 5) / letter);
  let text = "";
  if (pixels >= LEAST_TEXT) {
    text = frame.label.length <= room ? frame.label : frame.label.slice(0, room - 1) + "…";
  }
  if (frame.text.textContent !== text) frame.text.textContent = text;
}

function zoom(picture, frame) {
  picture.zoomed = frame && frame.width < 100 - EPSILON ? frame : null;
  lay(picture);
}

// Focus within a picture goes from frame to frame; the picture itself is one stop of the tab key.
function point(picture, frame) {
  if (picture.current) picture.current.element.classList.remove("current");
  picture.current = frame;
  if (frame) frame.element.classList.add("current");
  picture.details.textContent = frame ? frame.title : "\u00a0";
}

function holder(picture, frame) {
  const below = picture.frames.filter((other) => other.y > frame.y
    && other.x <= frame.x + EPSILON && other.x + other.width >= frame.x + frame.width - EPSILON);
  return below.reduce((best, other) => (!best || other.y < best.y ? other : best), null);
}

function held(picture, frame) {
  const above = picture.frames.filter((other) => other.shown && other.y < frame.y
    && other.x >= frame.x - EPSILON && other.x + other.width <= frame.x + frame.width + EPSILON);
  const row = Math.max(...above.map((other) => other.y));
  return above.filter((other) => other.y === row)
    .reduce((best, other) => (!best || other.width > best.width ? other : best), null);
}

function beside(picture, frame, step) {
  const row = picture.frames.filter((other) => other.shown && other.y === frame.y)
    .sort((a, b) => a.x - b.x);
  return row[row.indexOf(frame) + step];
}

function root(picture) {
  const shown = picture.frames.filter((frame) => frame.shown);
  return shown.reduce((best, frame) => (!best || frame.y > best.y ? frame : best), null);
}

function key(picture, event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const from = picture.current && picture.current.shown ? picture.current : null;
  const go = {
    ArrowUp: () => held(picture, from),
    ArrowDown: () => holder(picture, from),
    ArrowLeft: () => beside(picture, from, -1),
    ArrowRight: () => beside(picture, from, 1),
  }[event.key];
  if (go) {
    const to = from ? go() : root(picture);
    if (to) point(picture, to);
    event.preventDefault();
  } else if (event.key === "Enter" && from) {
    zoom(picture, from);
    event.preventDefault();
  }
}

// Search: the share of the picture that holds a match, each stack counted once.
function mark(picture, matches) {
  const hits = [];
  for (const frame of picture.frames) {
    const hit = matches !== null && matches(frame);
    frame.element.classList.toggle("hit", hit);
    if (hit) hits.push(frame);
  }
  picture.canvas.classList.toggle("searched", matches !== null);
  hits.sort((a, b) => a.x - b.x || b.width - a.width);
  let share = 0;
  let end = -1;
  for (const { x, width } of hits) {
    if (x + width <= end + EPSILON) continue;
    share += width;
    end = x + width;
  }
  return { count: hits.length, share };
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
  for (const { keys } of pictures) {
    for (const button of keys) {
      button.setAttribute("aria-pressed", String(button.dataset.role === role));
    }
  }
}

function search(term) {
  press(null);
  const results = pictures.map((picture) => {
    const { count, share } = mark(picture, term === "" ? null : matcher(term));
    return `${picture.heading} ${count === 0 ? "none" : share.toFixed(1) + "%"}`;
  });
  found.textContent = term === "" ? "" : results.join(", ");
}

function searchRole(button) {
  const on = button.getAttribute("aria-pressed") === "true" ? null : button.dataset.role;
  field.value = "";
  press(on);
  for (const picture of pictures) {
    mark(picture, on === null ? null : (frame) => frame.role === on);
  }
  // A frame counts whole in a search, with all that it called; the legend has the role's share.
  found.textContent = on === null ? "" : button.textContent;
}

function reset() {
  field.value = "";
  search("");
  for (const picture of pictures) {
    zoom(picture, null);
    point(picture, null);
  }
}

for (const picture of pictures) {
  const of = (event) => {
    const element = event.target.closest("svg.f");
    return picture.frames.find((frame) => frame.element === element);
  };
  picture.canvas.addEventListener("click", (event) => {
    const frame = of(event);
    if (frame) { point(picture, frame); zoom(picture, frame); }
  });
  picture.canvas.addEventListener("mouseover", (event) => {
    const frame = of(event);
    if (frame) picture.details.textContent = frame.title;
  });
  picture.canvas.addEventListener("mouseleave", () => point(picture, picture.current));
  picture.canvas.addEventListener("keydown", (event) => key(picture, event));
  picture.canvas.addEventListener("focus", () => {
    if (!picture.current) point(picture, root(picture));
  });
  for (const button of picture.keys) {
    button.addEventListener("click", () => searchRole(button));
  }
  new ResizeObserver(() => lay(picture)).observe(picture.canvas);
  lay(picture);
}
field.addEventListener("input", () => search(field.value));
field.form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("reset").addEventListener("click", reset);
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
