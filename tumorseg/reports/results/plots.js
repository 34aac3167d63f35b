"use strict";
// Plots of the scores: distributions, size against a metric, volumes against each other, Bland-Altman.
(() => {
  const { scores, at, make, draw, choice, quantile, mean, hasVolumes, plot } = window.report;
  const chosen = { metric: 0, label: "", split: "" };
  const mostGroups = 12; // values of an attribute that a plot can show beside each other
  const mostBoxes = 40; // below each other
  let grouped = [];

  function caseOf(row) {
    return scores.cases[row[at.case]];
  }

  function open(name) {
    return () => window.report.findCase && window.report.findCase(name);
  }

  // Once for all plots: to look through all rows for each label takes seconds where both are many.
  function byLabel() {
    const groups = scores.labels.map((label, index) => ({ label, index, rows: [] }));
    for (const row of scores.rows) groups[row[at.label]].rows.push(row);
    return groups;
  }

  // Of the chosen labels, the rows that are kept.
  function shownGroups(isKept = () => true) {
    const groups = chosen.label === "" ? grouped : [grouped[Number(chosen.label)]];
    return groups.map((group) => ({ ...group, rows: group.rows.filter(isKept) }));
  }

  function rowsOf(groups) {
    return groups.flatMap(({ rows }) => rows);
  }

  // Points of all labels, those of the label with the fewest rows on top.
  function scatter(groups, placeOf, wordsOf) {
    const layers = [];
    const targets = [];
    for (const { label, index, rows: own } of groups) {
      const places = own.map(placeOf);
      own.forEach((row, number) => {
        const words = `${caseOf(row)}, ${label.name}: ${wordsOf(row)}`;
        targets.push({ x: places[number][0], y: places[number][1], words, open: open(caseOf(row)) });
      });
      if (places.length) layers.push([places.length, plot.points(places, index, label.color)]);
    }
    layers.sort(([first], [second]) => second - first);
    return { layers: layers.map(([, layer]) => layer), targets };
  }

  function boxGroups() {
    const split = chosen.split === "" ? null : scores.columns[Number(chosen.split)];
    const position = at.metrics + chosen.metric;
    const groups = [];
    for (const { label, index, rows } of shownGroups()) {
      const values = new Map();
      for (const row of rows) {
        if (row[position] === null) continue;
        const part = split ? split.values[row[at.case]] || "(none)" : "";
        if (!values.has(part)) values.set(part, []);
        values.get(part).push(row);
      }
      for (const part of [...values.keys()].sort()) groups.push({ name: split ? `${label.name}, ${part}` : label.name, label, index, rows: values.get(part) });
    }
    return groups;
  }

  function drawBox(svg, group, x, y, position) {
    const sorted = group.rows.map((row) => row[position]).sort((first, second) => first - second);
    const [low, median, high] = [0.25, 0.5, 0.75].map((share) => quantile(sorted, share));
    // Whiskers after Tukey: to the last values within one and a half times the box beyond its ends.
    const reach = 1.5 * (high - low);
    const whiskers = [sorted.find((value) => value >= low - reach), sorted.findLast((value) => value <= high + reach)];
    const [left, right, first, last] = [low, high, ...whiskers].map((value) => x.at(value).toFixed(1));
    svg.append(draw("path", { class: "whisker", d: `M${first} ${y}H${left}M${right} ${y}H${last}M${first} ${y - 5}v10M${last} ${y - 5}v10` }));
    const width = Math.max(right - left, 1);
    svg.append(draw("rect", { class: "box", x: left, y: y - 9, width, height: 18, fill: group.label.color, stroke: group.label.color }));
    svg.append(draw("path", { class: "median", d: `M${x.at(median).toFixed(1)} ${y - 9}v18` }));
    svg.append(draw("path", { class: "mean", d: `M${x.at(mean(sorted)).toFixed(1)} ${y}m-4 0l4 -4l4 4l-4 4z` }));
    return `${group.name} median ${median.toFixed(scores.metrics[chosen.metric].decimals)} (${sorted.length})`;
  }

  function paintBoxes(width) {
    const metric = scores.metrics[chosen.metric];
    const position = at.metrics + chosen.metric;
    const all = boxGroups();
    const groups = all.slice(0, mostBoxes);
    const names = Math.max(0, ...groups.map((group) => group.name.length));
    const step = 40;
    const box = plot.frame(width, groups.length * step + 60, { left: Math.min(names * 7 + 16, width * 0.35) });
    const values = groups.flatMap((group) => group.rows.map((row) => row[position]));
    const x = plot.linear(metric.share ? [0, 1] : plot.padded(values), [box.left, box.right]);
    const svg = plot.canvas(width, box.height, plot.axes(box, x, null, metric.title));
    const targets = [];
    const words = groups.map((group, number) => {
      const y = box.top + (number + 0.5) * step;
      // Spread over the row by the order of cases, the same way each time it is drawn.
      const places = group.rows.map((row, index) => [x.at(row[position]), y + (((index * 0.618034) % 1) - 0.5) * 16]);
      const name = draw("text", { x: box.left - 8, y: y + 4, "text-anchor": "end" }, clipped(group.name, box.left));
      name.append(draw("title", {}, group.name));
      svg.append(name, plot.points(places, group.index, group.label.color));
      group.rows.forEach((row, index) => {
        const told = `${caseOf(row)}, ${group.name}: ${row[position].toFixed(metric.decimals)}`;
        targets.push({ x: places[index][0], y: places[index][1], lane: number, words: told, open: open(caseOf(row)) });
      });
      return drawBox(svg, group, x, y, position);
    });
    const left = all.length > groups.length ? ` The first ${groups.length} of ${all.length}; choose a label.` : "";
    return { svg, targets, words: `${words.slice(0, mostGroups).join("; ")}. Box: quartiles; diamond: mean.${left}` };
  }

  function clipped(text, room) {
    const most = Math.max(Math.floor((room - 14) / 6.6), 4);
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
  }

  function volumeWords(row) {
    return `reference ${row[at.reference].toFixed(2)} ml, prediction ${row[at.prediction].toFixed(2)} ml`;
  }

  function paintVolumes(width) {
    const box = plot.frame(width, Math.min(width, 340));
    const groups = shownGroups(hasVolumes);
    const rows = rowsOf(groups);
    const volumes = rows.flatMap((row) => [row[at.reference], row[at.prediction]]);
    const x = plot.logarithmic(volumes, [box.left, box.right]);
    const y = plot.logarithmic(volumes, [box.bottom, box.top]);
    const { layers, targets } = scatter(groups, (row) => [x.at(row[at.reference]), y.at(row[at.prediction])], volumeWords);
    const equal = draw("path", { class: "guide", d: `M${box.left} ${box.bottom}L${box.right} ${box.top}` });
    const svg = plot.canvas(width, box.height, plot.axes(box, x, y, "Reference (ml)", "Prediction (ml)"), equal, ...layers);
    return { svg, targets, words: `${rows.length} volumes; on the line the prediction is as large as the reference. Logarithmic, 0 apart.` };
  }

  function paintSizes(width) {
    const metric = scores.metrics[chosen.metric];
    const position = at.metrics + chosen.metric;
    const box = plot.frame(width, Math.min(width, 340));
    const groups = shownGroups((row) => hasVolumes(row) && row[position] !== null);
    const rows = rowsOf(groups);
    const x = plot.logarithmic(rows.map((row) => row[at.reference]), [box.left, box.right]);
    const range = metric.share ? [0, 1] : plot.padded(rows.map((row) => row[position]));
    const y = plot.linear(range, [box.bottom, box.top]);
    const told = (row) => `${metric.title} ${row[position].toFixed(metric.decimals)}, ${volumeWords(row)}`;
    const { layers, targets } = scatter(groups, (row) => [x.at(row[at.reference]), y.at(row[position])], told);
    const svg = plot.canvas(width, box.height, plot.axes(box, x, y, "Reference (ml)", metric.title), ...layers);
    return { svg, targets, words: `${rows.length} scores by the size of the reference.` };
  }

  // Bland and Altman, Lancet 1986: limits of agreement are the mean difference and 1.96 standard deviations to both sides.
  function agreement(rows) {
    const differences = rows.map((row) => row[at.prediction] - row[at.reference]);
    const bias = mean(differences);
    const squares = differences.reduce((sum, value) => sum + (value - bias) ** 2, 0);
    const spread = 1.96 * Math.sqrt(squares / (rows.length - 1));
    return { differences, lines: [bias - spread, bias, bias + spread] };
  }

  function paintAgreement(width) {
    const box = plot.frame(width, Math.min(width, 340));
    const groups = shownGroups(hasVolumes);
    const rows = rowsOf(groups);
    const { differences, lines } = agreement(rows);
    // Over several structures of different sizes one bias would say nothing.
    const isOne = (chosen.label !== "" || scores.labels.length === 1) && rows.length > 1;
    const x = plot.logarithmic(rows.map((row) => (row[at.prediction] + row[at.reference]) / 2), [box.left, box.right]);
    const y = plot.linear(plot.padded(isOne ? [...differences, ...lines] : differences), [box.bottom, box.top]);
    const placeOf = (row) => [x.at((row[at.prediction] + row[at.reference]) / 2), y.at(row[at.prediction] - row[at.reference])];
    const { layers, targets } = scatter(groups, placeOf, volumeWords);
    const svg = plot.canvas(width, box.height, plot.axes(box, x, y, "Mean of both volumes (ml)", "Prediction − reference (ml)"));
    const heights = isOne ? lines : [0];
    heights.forEach((line, number) => {
      const d = `M${box.left} ${y.at(line).toFixed(1)}H${box.right}`;
      svg.append(draw("path", { class: heights.length === 1 || number === 1 ? "guide strong" : "guide", d }));
    });
    svg.append(...layers);
    const [low, bias, high] = lines.map((line) => line.toFixed(2));
    const words = isOne ? `Bias ${bias} ml, 95 % limits of agreement ${low} to ${high} ml.` : "Choose one label to see bias and limits of agreement.";
    return { svg, targets, words };
  }

  function legendOf(labels) {
    const entries = labels.map((label, index) => make("li", {}, plot.marker(index, label.color), label.name));
    return make("ul", { class: "legend" }, ...entries);
  }

  function splitColumns() {
    const options = scores.columns.map((column, index) => [index, column.name]);
    return options.filter(([index]) => {
      const values = new Set(scores.columns[index].values);
      return values.size > 1 && values.size <= mostGroups;
    });
  }

  function showScores() {
    const section = document.getElementById("plots");
    const boxes = plot.figure("Metric by label", paintBoxes);
    const sizes = plot.figure("Size against the metric", paintSizes);
    const volumes = plot.figure("Volumes", paintVolumes);
    const limits = plot.figure("Bland-Altman", paintAgreement);
    const set = (name, figures) => (value) => {
      chosen[name] = name === "metric" ? Number(value) : value;
      for (const figure of figures) figure.redraw();
    };
    const controls = section.querySelector(".controls");
    controls.append(choice("Metric", scores.metrics.map((metric, index) => [index, metric.title]), set("metric", [boxes, sizes])).field);
    const label = choice("Label", [["", "all"], ...scores.labels.map((found, index) => [index, found.name])], set("label", [boxes, sizes, volumes, limits]));
    if (scores.labels.length > 1) controls.append(label.field);
    const splits = splitColumns();
    if (splits.length) controls.append(choice("Divide boxes by", [["", "nothing"], ...splits], set("split", [boxes])).field);
    boxes.element.classList.add("wide");
    section.querySelector(".plots").append(boxes.element);
    if (scores.rows.some(hasVolumes)) section.querySelector(".plots").append(sizes.element, volumes.element, limits.element);
    if (scores.labels.length <= mostGroups) section.append(legendOf(scores.labels));
  }

  if (scores && scores.rows.length) {
    grouped = byLabel();
    showScores();
  }
})();
