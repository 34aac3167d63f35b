"use strict";
// The trials of a study: each with the best so far, and its values as a line across the axes of the fields.
(() => {
  const { data, make, draw, choice, number, plot } = window.report;
  const section = document.getElementById("study");
  if (!section) return;
  const { objectives, axes, trials, iterations } = data.study;
  const colors = { finished: "#0072B2", pruned: "#8b949e", running: "#CC79A7", failed: "#D55E00", front: "#E69F00" };
  const shapes = { finished: 0, pruned: 3, running: 1, failed: 4, front: 2 };
  const shown = { objective: 0, across: 0, up: 1, share: 1 };
  const absent = 22; // pixels below an axis, of a field that did not count

  function isBetter(first, second, objective) {
    return objectives[objective].isMaximised ? first > second : first < second;
  }

  function scoreWords(trial) {
    return objectives.map(({ title, decimals }, index) => `${title} ${number(trial.scores[index], decimals)}`).join(", ");
  }

  function words(trial) {
    const reached = trial.state === "finished" ? "" : `, ${trial.state} after ${trial.iteration} of ${iterations} steps`;
    return `trial ${trial.title}: ${scoreWords(trial)}${reached}`;
  }

  function bestPath(places, objective) {
    let best = null;
    const parts = [];
    for (const { trial, x, y } of places) {
      if (trial.state !== "finished" || (best && !isBetter(trial.scores[objective], best.trial.scores[objective], objective))) continue;
      best = { trial, y };
      parts.push(parts.length ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`);
    }
    if (best) parts.push(`H${places[places.length - 1].x.toFixed(1)}`);
    return parts.join("");
  }

  function paintHistory(width) {
    const objective = shown.objective;
    const box = plot.frame(width, 300);
    const x = plot.linear([0, Math.max(trials[trials.length - 1].number, 1)], [box.left, box.right]);
    const y = plot.linear(plot.padded(trials.map((trial) => trial.scores[objective])), [box.bottom, box.top]);
    const places = trials.map((trial) => ({ trial, x: x.at(trial.number), y: y.at(trial.scores[objective]) }));
    const svg = plot.canvas(width, box.height, plot.axes(box, x, y, "Trial", objectives[objective].title));
    svg.append(draw("path", { class: "curve", d: bestPath(places, objective), stroke: colors.front }));
    for (const state of ["pruned", "running", "failed", "finished"]) {
      const own = places.filter(({ trial }) => trial.state === state);
      if (own.length) svg.append(plot.points(own.map((place) => [place.x, place.y]), shapes[state], colors[state]));
    }
    const targets = places.map(({ trial, x: left, y: top }) => ({ x: left, y: top, words: words(trial) }));
    return { svg, targets, words: "Each trial at the last rung that it reached; the line is the best finished one so far." };
  }

  // By rank among those that are shown, so that one poor trial does not make all others alike.
  function ranked() {
    const finished = trials.filter((trial) => trial.state === "finished");
    finished.sort((first, second) => (isBetter(first.scores[shown.objective], second.scores[shown.objective], shown.objective) ? -1 : 1));
    const kept = finished.slice(0, Math.max(1, Math.round(finished.length * shown.share)));
    return kept.map((trial, index) => ({ trial, share: kept.length > 1 ? 1 - index / (kept.length - 1) : 1 }));
  }

  function colorOf(share) {
    return `color-mix(in oklab, ${colors.front} ${Math.round(100 * share)}%, ${colors.finished})`;
  }

  function scaleOf(axis, box) {
    const [low, high] = axis.range;
    const span = axis.isLog ? Math.log(high / low) : high - low;
    const share = (value) => (axis.isLog ? Math.log(value / low) : value - low) / span;
    return (value) => (value === null ? box.bottom + absent : box.bottom + share(value) * (box.top - box.bottom));
  }

  function drawAxis(axis, x, box, step) {
    const group = draw("g", {}, draw("path", { class: "axis", d: `M${x} ${box.top}V${box.bottom}` }));
    const name = draw("text", { class: "name", transform: `translate(${x} ${box.top - 14}) rotate(-24)` }, axis.isLog ? `${axis.title} (log)` : axis.title);
    name.append(draw("title", {}, axis.field));
    group.append(name);
    const ends = axis.options.length ? axis.options : axis.range.map((value) => String(Number(value.toPrecision(3))));
    const most = Math.max(4, Math.floor(step / 7));
    ends.forEach((text, index) => {
      const y = box.bottom + (index / Math.max(ends.length - 1, 1)) * (box.top - box.bottom);
      const short = text.length > most ? `${text.slice(0, most - 1)}…` : text;
      group.append(draw("text", { class: "end", x: x + 5, y: y + 4 }, short));
    });
    return group;
  }

  function paintParallel(room) {
    // Where there is less room the picture is shown smaller: axes must not run into each other.
    const width = Math.max(room, 680);
    const outer = plot.frame(width, 420, { left: 24 });
    const box = { ...outer, top: 104, bottom: 360 };
    const step = (width - 190) / Math.max(axes.length - 1, 1);
    const at = (index) => box.left + index * step;
    const scales = axes.map((axis) => scaleOf(axis, box));
    const svg = plot.canvas(width, box.height);
    const targets = [];
    // The best last, so that it lies on top.
    for (const { trial, share } of ranked().reverse()) {
      const places = trial.values.map((value, index) => [at(index), scales[index](value)]);
      const d = places.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
      const line = draw("path", { class: "trial", d, style: `stroke: ${colorOf(share)}` });
      line.append(draw("title", {}, words(trial)));
      svg.append(line);
      places.forEach(([x, y], index) => {
        const value = trial.values[index];
        const text = value === null ? "did not count" : axes[index].options[value] ?? Number(value.toPrecision(4));
        targets.push({ x, y, lane: index, words: `${words(trial)}; ${axes[index].field} ${text}` });
      });
    }
    axes.forEach((axis, index) => svg.append(drawAxis(axis, at(index), box, step)));
    svg.append(draw("text", { x: box.left, y: box.bottom + absent + 26 }, "below an axis: the field did not count in the trial"));
    return { svg, targets, words: `${ranked().length} finished trials, one line each, from blue to orange the better by ${objectives[shown.objective].title}.` };
  }

  function paintTrade(width) {
    const box = plot.frame(width, 320);
    const finished = trials.filter((trial) => trial.state === "finished");
    const [across, up] = [objectives[shown.across], objectives[shown.up]];
    const x = plot.linear(plot.padded(finished.map((trial) => trial.scores[shown.across])), [box.left, box.right]);
    const y = plot.linear(plot.padded(finished.map((trial) => trial.scores[shown.up])), [box.bottom, box.top]);
    const svg = plot.canvas(width, box.height, plot.axes(box, x, y, across.title, up.title));
    const targets = finished.map((trial) => ({ x: x.at(trial.scores[shown.across]), y: y.at(trial.scores[shown.up]), words: words(trial) }));
    for (const [isOnFront, kind] of [[false, "finished"], [true, "front"]]) {
      const own = targets.filter((target, index) => finished[index].isOnFront === isOnFront);
      svg.append(plot.points(own.map((target) => [target.x, target.y]), shapes[kind], colors[kind]));
    }
    const better = ({ title, isMaximised }) => `${isMaximised ? "more" : "less"} ${title}`;
    return { svg, targets, words: `Triangles: the Pareto front, where no other trial is better in every objective. Better: ${better(across)}, ${better(up)}.` };
  }

  function legend(kinds) {
    const entries = kinds.map(([kind, text]) => make("li", {}, plot.marker(shapes[kind], colors[kind]), text));
    return make("ul", { class: "legend" }, ...entries);
  }

  function show() {
    const figures = [];
    const add = (title, paint, more) => {
      const figure = plot.figure(title, paint);
      figure.element.classList.add("wide");
      if (more) figure.element.append(more);
      figures.push(figure);
      section.querySelector(".plots").append(figure.element);
    };
    const redraw = () => figures.forEach((figure) => figure.redraw());
    const set = (name) => (value) => {
      shown[name] = Number(value);
      redraw();
    };
    const states = ["finished", "pruned", "running", "failed"].filter((state) => trials.some((trial) => trial.state === state));
    add("Trials and the best so far", paintHistory, legend(states.map((state) => [state, state])));
    const numFinished = trials.filter((trial) => trial.state === "finished").length;
    if (numFinished > 1) add("Values of finished trials", paintParallel);
    const titles = objectives.map(({ title }, index) => [index, title]);
    const controls = [];
    if (objectives.length > 1) controls.push(choice("Objective", titles, set("objective")).field);
    if (numFinished > 3) controls.push(choice("Lines", [[1, "all finished trials"], [0.5, "the better half"], [0.25, "the best quarter"], [0.1, "the best tenth"]], set("share")).field);
    if (objectives.length > 1 && numFinished > 1) add("What is traded for what", paintTrade);
    if (objectives.length > 2) {
      const up = choice("Up", titles, set("up"));
      up.select.value = "1";
      controls.push(choice("Across", titles, set("across")).field, up.field);
    }
    section.querySelector(".controls").append(...controls);
    for (const still of section.querySelectorAll(".static")) still.hidden = true;
  }

  show();
})();
