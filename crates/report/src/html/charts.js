// Charts of a page, drawn by uPlot from the JSON beside them. Hover reads values in all of them at
// one time; dragging zooms in, a double click out. Lanes of the page follow by events, and are
// followed.
(function () {
"use strict";

const charts = JSON.parse(document.getElementById("charts").textContent);
const HEIGHT = 170;
const KIB = 1024;
const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = [];

function rate(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  for (const [unit, scale] of [["GiB", KIB ** 3], ["MiB", KIB ** 2], ["KiB", KIB]]) {
    if (bytes >= scale) return number(bytes / scale) + " " + unit + "/s";
  }
  return number(bytes) + " B/s";
}

function number(value) {
  return value >= 100 ? value.toFixed(0) : String(+value.toPrecision(3));
}

const UNITS = {
  bytes_per_second: { scale: "rate", show: rate, range: (_, __, most) => [0, (most || 1) * 1.08] },
  percent: {
    scale: "%",
    show: (value) => (value === null || value === undefined ? "–" : value.toFixed(0) + " %"),
    range: [0, 100],
  },
};

// Whole steps of the unit that is shown: 1 GiB, not 1,000,000,000 bytes.
function steps() {
  const list = [];
  for (let scale = 1; scale <= KIB ** 4; scale *= KIB) {
    for (const step of [1, 2, 5, 10, 20, 50, 100, 200, 500]) list.push(step * scale);
  }
  return list;
}

function colours(forPrint) {
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(name).trim();
  return dark.matches && !forPrint
    ? { text: named("--text"), grid: named("--line"), rate: "#7db8e8", level: "#e0b95c" }
    : { text: "#222222", grid: "#dddddd", rate: "#1f5f99", level: "#a87400" };
}

function options(chart, width, ink) {
  const series = [{ label: "time", value: (_, at) => (at === null ? "–" : at.toFixed(2) + " s") }];
  const scales = { x: { time: false } };
  const axes = [{ stroke: ink.text, grid: { stroke: ink.grid, width: 1 }, ticks: { stroke: ink.grid },
    size: 28, values: (_, ticks) => ticks.map((tick) => number(tick) + " s") }];
  for (const { label, unit } of chart.series) {
    const { scale, show, range } = UNITS[unit];
    const isLevel = unit === "percent";
    series.push({
      label, scale, value: (_, value) => show(value), spanGaps: false,
      stroke: isLevel ? undefined : ink.rate, width: isLevel ? 0 : 2, points: { show: false },
      // Nobody knows what a level was between two looks, so no line joins them.
      fill: isLevel ? ink.level + "48" : undefined,
      paths: isLevel ? uPlot.paths.bars({ size: [1, Infinity] }) : undefined,
    });
    if (scales[scale]) continue;
    scales[scale] = { range };
    axes.push({
      scale, side: isLevel ? 1 : 3, size: isLevel ? 52 : 84, stroke: isLevel ? ink.level : ink.rate,
      grid: { show: !isLevel, stroke: ink.grid, width: 1 }, ticks: { show: false },
      values: (_, ticks) => ticks.map(show), incrs: isLevel ? [25, 50, 100] : steps(), space: 34,
    });
  }
  return { width, height: HEIGHT, series, scales, axes, padding: [8, 6, 0, 0],
    hooks: { setScale: [ranged], setCursor: [pointed] },
    cursor: { sync: { key: "time" }, points: { size: 6 } }, legend: { live: true } };
}

// What is told came from here, so it is not told again.
let follows = false;

function tell(name, detail) {
  if (!follows) document.dispatchEvent(new CustomEvent("charts:" + name, { detail }));
}

function ranged(plot, scale) {
  if (scale !== "x") return;
  const seconds = plot.data[0];
  const { min: from, max: until } = plot.scales.x;
  const all = from <= seconds[0] && until >= seconds[seconds.length - 1];
  tell("range", all ? null : { from, until });
}

function pointed(plot) {
  const { left } = plot.cursor;
  tell("cursor", { at: left < 0 ? null : plot.posToVal(left, "x") });
}

function follow(change) {
  follows = true;
  drawn.forEach((plot) => plot.batch(() => change(plot)));
  // uPlot draws, and calls its hooks, in a microtask.
  setTimeout(() => { follows = false; });
}

document.addEventListener("lanes:range", ({ detail }) => follow((plot) => {
  const seconds = plot.data[0];
  const [min, max] = detail ? [detail.from, detail.until] : [seconds[0], seconds[seconds.length - 1]];
  plot.setScale("x", { min, max });
}));
document.addEventListener("lanes:cursor", ({ detail }) => follow((plot) => {
  const left = detail.at === null ? -10 : plot.valToPos(detail.at, "x");
  plot.setCursor({ left, top: detail.at === null ? -10 : 10 }, false);
}));

function draw(forPrint) {
  follows = true;
  setTimeout(() => { follows = false; });
  while (drawn.length > 0) drawn.pop().destroy();
  const ink = colours(forPrint);
  for (const place of document.querySelectorAll("[data-chart]")) {
    const chart = charts[place.dataset.chart];
    const data = [chart.seconds, ...chart.series.map((series) => series.values)];
    drawn.push(new uPlot(options(chart, place.clientWidth, ink), data, place));
  }
}

// Only the width of the page counts: its height changes with the charts themselves.
let width = 0;
new ResizeObserver(() => {
  const now = document.documentElement.clientWidth;
  if (now === width) return;
  width = now;
  const places = document.querySelectorAll("[data-chart]");
  drawn.forEach((plot, at) => plot.setSize({ width: places[at].clientWidth, height: HEIGHT }));
}).observe(document.documentElement);
dark.addEventListener("change", () => draw(false));
addEventListener("beforeprint", () => draw(true));
addEventListener("afterprint", () => draw(false));
draw(false);
})();
