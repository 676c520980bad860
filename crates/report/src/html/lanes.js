// Lanes over time: zoom by dragging, by a click on a phase or by keys, and what each lane says at
// the pointer. Charts of the page follow by events, and are followed.
(function () {
"use strict";

const picture = document.querySelector("svg.lanes");
const data = JSON.parse(document.getElementById("lanes").textContent);
const told = document.querySelector(".told");
const button = document.querySelector("button.whole");
const KIB = 1024;
let view = [0, data.seconds];
let cursor = null;
let lane = 0;
let drag = null;

function make(name) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  picture.append(element);
  return element;
}
const line = make("line");
line.setAttribute("class", "cursor");
const chosen = make("rect");
chosen.setAttribute("class", "chosen");
for (const element of [line, chosen]) {
  element.setAttribute("y", 0);
  element.setAttribute("height", picture.getAttribute("height"));
  element.setAttribute("visibility", "hidden");
}
line.setAttribute("y1", 0);
line.setAttribute("y2", picture.getAttribute("height"));

const share = (seconds) => 100 * (seconds - view[0]) / (view[1] - view[0]);

function number(value) {
  return value >= 100 ? value.toFixed(0) : String(+value.toPrecision(3));
}

function rate(value) {
  for (const [unit, scale] of [["GiB", KIB ** 3], ["MiB", KIB ** 2], ["KiB", KIB]]) {
    if (value >= scale) return number(value / scale) + " " + unit + "/s";
  }
  return number(value) + " bytes/s";
}

function time(seconds, step) {
  const [scale, unit] = data.seconds >= 1 ? [1, "s"] : [1000, "ms"];
  const decimals = Math.max(0, -Math.floor(Math.log10(step * scale)));
  return (seconds * scale).toFixed(seconds === 0 ? 0 : decimals) + " " + unit;
}

function ticks() {
  const axis = picture.querySelector(".axis");
  const least = (view[1] - view[0]) / 9;
  const scale = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((of) => of * scale).find((of) => of >= least);
  axis.replaceChildren();
  for (let at = Math.ceil(view[0] / step), n = 0; at * step <= view[1]; at++, n++) {
    const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
    const x = share(at * step);
    text.setAttribute("class", n % 2 ? "tick odd" : "tick");
    text.setAttribute("x", x + "%");
    text.setAttribute("y", axis.dataset.y);
    text.setAttribute("text-anchor", x < 1 ? "start" : x > 96 ? "end" : "middle");
    text.textContent = time(at * step, step);
    axis.append(text);
  }
}

function show(from, until) {
  const least = 4 * data.seconds / data.columns;
  if (until - from < least) {
    from = (from + until - least) / 2;
    until = from + least;
  }
  view = [Math.max(0, from), Math.min(data.seconds, until)];
  const column = data.seconds / data.columns;
  for (const track of picture.querySelectorAll(".track, .strip")) {
    const [x, width] = [view[0] / column, (view[1] - view[0]) / column].map((n) => +n.toFixed(3));
    track.setAttribute("viewBox", [x, 0, width, 100].join(" "));
  }
  for (const phase of picture.querySelectorAll(".phase")) {
    const [from, until] = [+phase.dataset.from, +phase.dataset.until];
    const x = Math.max(0, Math.min(100, share(from)));
    phase.setAttribute("x", x + "%");
    phase.setAttribute("width", Math.max(0, Math.min(100, share(until)) - x) + "%");
  }
  for (const cut of picture.querySelectorAll(".cut")) {
    const x = share(+cut.dataset.at);
    cut.setAttribute("x1", x + "%");
    cut.setAttribute("x2", x + "%");
    cut.setAttribute("visibility", x < 0 || x > 100 ? "hidden" : "visible");
  }
  ticks();
  button.hidden = view[0] <= 0 && view[1] >= data.seconds;
  point(cursor);
}

function zoom(from, until) {
  show(from, until);
  const detail = button.hidden ? null : { from: view[0], until: view[1] };
  document.dispatchEvent(new CustomEvent("lanes:range", { detail }));
}

function point(seconds) {
  cursor = seconds;
  const outside = seconds === null || seconds < view[0] || seconds > view[1];
  line.setAttribute("visibility", outside ? "hidden" : "visible");
  if (outside) {
    told.textContent = "";
    return;
  }
  const x = share(seconds) + "%";
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
  const at = Math.min(data.columns - 1, Math.floor(seconds / data.seconds * data.columns));
  const of = data.lanes[lane];
  const words = [];
  for (const { label, unit, values } of of.rows) {
    const value = values[at];
    if (value === null || (unit === "percent" && value < 1 && label !== "fill")) continue;
    words.push(label + " " + (unit === "percent" ? value + " %" : rate(value)));
  }
  const step = (view[1] - view[0]) / 100;
  told.textContent = "at " + time(seconds, step) + ", " + of.name + ": "
    + (words.join(", ") || "not running");
}

function read(seconds) {
  point(seconds);
  document.dispatchEvent(new CustomEvent("lanes:cursor", { detail: { at: seconds } }));
}

function place(event) {
  const box = picture.getBoundingClientRect();
  const part = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  const y = event.clientY - box.top;
  const found = data.lanes.findIndex((of) => y < of.bottom + 4);
  lane = found < 0 ? data.lanes.length - 1 : found;
  return view[0] + part * (view[1] - view[0]);
}

picture.addEventListener("pointerdown", (event) => {
  // A finger scrolls the page.
  if (event.button !== 0 || event.pointerType === "touch") return;
  drag = { from: place(event), x: event.clientX };
});
addEventListener("pointermove", (event) => {
  const within = picture.contains(event.target);
  if (!drag && !within) return;
  const at = place(event);
  read(at);
  if (!drag || Math.abs(event.clientX - drag.x) < 4) return;
  const [from, until] = [Math.min(drag.from, at), Math.max(drag.from, at)];
  chosen.setAttribute("x", share(from) + "%");
  chosen.setAttribute("width", share(until) - share(from) + "%");
  chosen.setAttribute("visibility", "visible");
});
addEventListener("pointerup", (event) => {
  if (!drag) return;
  const { from, x } = drag;
  drag = null;
  chosen.setAttribute("visibility", "hidden");
  const at = place(event);
  if (Math.abs(event.clientX - x) >= 4) zoom(Math.min(from, at), Math.max(from, at));
});
picture.addEventListener("click", (event) => {
  const phase = event.target.closest(".phase");
  if (phase) zoom(+phase.dataset.from, +phase.dataset.until);
  else read(place(event));
});
picture.addEventListener("dblclick", () => zoom(0, data.seconds));
picture.addEventListener("pointerleave", () => read(null));
button.addEventListener("click", () => zoom(0, data.seconds));
picture.addEventListener("keydown", (event) => {
  const step = (view[1] - view[0]) / 50;
  const at = cursor === null ? view[0] + step / 2 : cursor;
  const middle = (view[0] + view[1]) / 2;
  const part = (view[1] - view[0]) / 4;
  const keys = {
    ArrowLeft: () => read(Math.max(view[0], at - step)),
    ArrowRight: () => read(Math.min(view[1], at + step)),
    ArrowUp: () => { lane = Math.max(0, lane - 1); read(at); },
    ArrowDown: () => { lane = Math.min(data.lanes.length - 1, lane + 1); read(at); },
    "+": () => zoom(at - part, at + part),
    "-": () => zoom(middle - 4 * part, middle + 4 * part),
    Escape: () => zoom(0, data.seconds),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  event.stopPropagation();
  keys[event.key]();
});
document.addEventListener("charts:range", ({ detail }) => {
  if (detail) show(detail.from, detail.until);
  else show(0, data.seconds);
});
document.addEventListener("charts:cursor", ({ detail }) => point(detail.at));
addEventListener("beforeprint", () => zoom(0, data.seconds));
})();
