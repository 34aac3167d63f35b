"use strict";
// Plots as SVG: axes, ticks, points of many rows in one path, and what is under the pointer.
window.report.plot = (() => {
  const { make, draw } = window.report;
  const margin = { left: 58, right: 14, top: 12, bottom: 42 };
  // Shapes as well as colours tell labels apart: a path around (0, 0) each.
  const shapes = [
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0",
    "m-2.7 -2.7h5.4v5.4h-5.4z",
    "m0 -3.6l3.4 6h-6.8z",
    "m0 -3.8l3.8 3.8l-3.8 3.8l-3.8 -3.8z",
    "m0 3.6l3.4 -6h-6.8z",
    "m-3.4 -1h2.4v-2.4h2v2.4h2.4v2h-2.4v2.4h-2v-2.4h-2.4z",
  ];

  const keyWords = "Arrow keys go from point to point";

  function niceStep(span, count) {
    const rough = span / Math.max(count, 1);
    const power = 10 ** Math.floor(Math.log10(rough));
    const factor = [1, 2, 5, 10].find((candidate) => candidate * power >= rough * 0.999);
    return factor * power;
  }

  function linear([low, high], [from, to]) {
    const span = high - low || 1;
    const step = niceStep(span, Math.abs(to - from) / 70);
    const ticks = [];
    for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-6; tick += step) ticks.push(tick);
    const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const text = (tick) => (step < 1e-4 ? tick.toExponential(1) : Math.abs(tick) < step / 2 ? "0" : tick.toFixed(decimals));
    return { at: (value) => from + ((value - low) / span) * (to - from), ticks, text };
  }

  // Powers of ten, and their double and fivefold where there is room for them.
  function logarithmicTicks(low, high, most) {
    const powers = [];
    for (let power = Math.floor(low); power <= high; power += 1) powers.push(10 ** power);
    const isInside = (tick) => Math.log10(tick) >= low && Math.log10(tick) <= high;
    const all = powers.flatMap((power) => [power, 2 * power, 5 * power]).filter(isInside);
    if (all.length <= most) return all;
    const every = Math.ceil((high - low) / Math.max(most, 1));
    return powers.filter((power, index) => isInside(power) && index % every === 0);
  }

  // Logarithmic; 0, which has no logarithm, stands in a lane of its own before the least of them.
  function logarithmic(values, [from, to]) {
    const positive = values.filter((value) => value > 0);
    const [least, most] = positive.length ? minMax(positive) : [0.1, 1];
    const extra = 0.04 * Math.max(Math.log10(most / least), 0.5);
    const low = Math.log10(least) - extra;
    const high = Math.log10(most) + extra;
    const lane = positive.length < values.length ? (to - from) * 0.07 : 0;
    const place = (value) => from + lane + ((Math.log10(value) - low) / (high - low)) * (to - from - lane);
    const ticks = logarithmicTicks(low, high, Math.abs(to - from) / 50);
    const text = (tick) => (tick === 0 || (tick >= 0.001 && tick < 1e5) ? String(Number(tick.toPrecision(1))) : tick.toExponential(0));
    if (lane) ticks.unshift(0);
    return { at: (value) => (value > 0 ? place(value) : from), ticks, text };
  }

  // Not Math.min(...values): thousands of arguments are more than a call can take.
  function minMax(values) {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return low <= high ? [low, high] : [0, 1];
  }

  function padded(values, share = 0.04) {
    const [low, high] = minMax(values);
    const extra = (high - low || Math.abs(high) || 1) * share;
    return [low - extra, high + extra];
  }

  function frame(width, height, { left = margin.left } = {}) {
    return { left, right: width - margin.right, top: margin.top, bottom: height - margin.bottom, width, height };
  }

  function axes(box, x, y, xTitle, yTitle) {
    const group = draw("g", { class: "axes" });
    for (const tick of x.ticks) {
      const place = x.at(tick).toFixed(1);
      group.append(draw("path", { class: "grid", d: `M${place} ${box.top}V${box.bottom}` }));
      group.append(draw("text", { x: place, y: box.bottom + 17, "text-anchor": "middle" }, x.text(tick)));
    }
    for (const tick of y ? y.ticks : []) {
      const place = y.at(tick).toFixed(1);
      group.append(draw("path", { class: "grid", d: `M${box.left} ${place}H${box.right}` }));
      group.append(draw("text", { x: box.left - 7, y: Number(place) + 4, "text-anchor": "end" }, y.text(tick)));
    }
    const middle = (box.left + box.right) / 2;
    group.append(draw("text", { class: "title", x: middle, y: box.height - 6, "text-anchor": "middle" }, xTitle));
    if (yTitle) {
      const turned = `translate(13 ${(box.top + box.bottom) / 2}) rotate(-90)`;
      group.append(draw("text", { class: "title", transform: turned, "text-anchor": "middle" }, yTitle));
    }
    return group;
  }

  // One path for all points of a label: thousands of elements would take seconds to lay out.
  function points(places, label, color) {
    const shape = shapes[label % shapes.length];
    const parts = places.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}${shape}`);
    return draw("path", { class: "points", d: parts.join(""), fill: color });
  }

  function marker(label, color) {
    const picture = draw("svg", { class: "marker", viewBox: "-5 -5 10 10", width: 12, height: 12, "aria-hidden": "true" });
    picture.append(draw("path", { d: `M0 0${shapes[label % shapes.length]}`, fill: color }));
    return picture;
  }

  // `targets` are {x, y, words, open}: what is told, and opened by a click, where the pointer comes near.
  function follow(svg, targets, tip) {
    const ring = draw("circle", { class: "ring", r: 7, visibility: "hidden" });
    svg.append(ring);
    svg.addEventListener("pointerleave", () => tell(null));
    function tell(target) {
      ring.setAttribute("visibility", target ? "visible" : "hidden");
      tip.hidden = !target;
      if (!target) return;
      for (const [name, value] of [["cx", target.x], ["cy", target.y]]) ring.setAttribute(name, value);
      tip.textContent = target.words;
      // In shares of the picture, which may be shown smaller than it was drawn; on the side where there is room.
      const { width, height } = svg.viewBox.baseVal;
      tip.style.left = `${(100 * target.x) / width}%`;
      tip.style.top = `${(100 * target.y) / height}%`;
      tip.classList.toggle("left", target.x > width / 2);
    }
    followKeys(svg, targets, tell);
    let nearest = null;
    svg.addEventListener("pointermove", (event) => {
      const rect = svg.getBoundingClientRect();
      const scale = svg.viewBox.baseVal.width / rect.width;
      const x = (event.clientX - rect.left) * scale;
      const y = (event.clientY - rect.top) * scale;
      let best = 18 ** 2;
      nearest = null;
      for (const target of targets) {
        const distance = (target.x - x) ** 2 + (target.y - y) ** 2;
        if (distance < best) [best, nearest] = [distance, target];
      }
      tell(nearest);
    });
    svg.addEventListener("click", () => nearest && nearest.open && nearest.open());
  }

  // Arrow keys go from point to point, from left to right and lane by lane; Enter does what a click does.
  function followKeys(svg, targets, tell) {
    let ordered = null;
    let place = 0;
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    svg.setAttribute("tabindex", "0");
    svg.addEventListener("blur", () => tell(null));
    svg.addEventListener("focus", () => {
      // Not before it is needed, as there may be thousands.
      ordered ||= [...targets].sort((first, second) => (first.lane || 0) - (second.lane || 0) || first.x - second.x || first.y - second.y);
      if (svg.matches(":focus-visible")) tell(ordered[place]);
    });
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") tell(null);
      if (event.key === "Enter" && ordered[place].open) ordered[place].open();
      const step = steps[event.key];
      if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
      place = Math.min(Math.max(place + step, 0), ordered.length - 1);
      tell(ordered[place]);
      event.preventDefault();
    });
  }

  // A figure that draws itself as wide as there is room: `paint(width)` returns {svg, targets, words}.
  function figure(title, paint) {
    const holder = make("div", { class: "canvas" });
    const caption = make("figcaption");
    const tip = make("div", { class: "tip", role: "status", hidden: true });
    const element = make("figure", { class: "plot" }, make("h3", {}, title), holder, caption);
    let width = 0;
    function redraw() {
      if (!width) return;
      const { svg, targets, words } = paint(width);
      const keys = targets.some(({ open }) => open) ? `${keyWords}, Enter finds the case in the table.` : `${keyWords}.`;
      // With points to go through, keys are the plot's own, also where a screen reader would take them.
      svg.setAttribute("role", targets.length ? "application" : "img");
      svg.setAttribute("aria-label", [`${title}. ${words}`, ...(targets.length ? [keys] : [])].join(" "));
      if (targets.length) follow(svg, targets, tip);
      caption.textContent = words;
      holder.replaceChildren(svg, tip);
    }
    new ResizeObserver(([entry]) => {
      const room = Math.round(entry.contentRect.width);
      // Less than a few pixels is a scroll bar that came or went.
      if (Math.abs(room - width) < 8) return;
      width = room;
      redraw();
    }).observe(holder);
    return { element, redraw };
  }

  function canvas(width, height, ...children) {
    return draw("svg", { viewBox: `0 0 ${width} ${height}` }, ...children);
  }

  return { linear, logarithmic, minMax, padded, frame, axes, points, marker, figure, canvas };
})();
