"use strict";
// What is not of scores alone: the differences of two models by case, and the curves of a training.
(() => {
  const { data, make, draw, choice, plot } = window.report;
  const colors = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6BB1"];
  const dashes = ["", "7 3", "2 3", "9 3 2 3"]; // as well as colours, for those who cannot tell these apart
  const mostEntries = 12; // of more, the legend would be longer than the plot

  // A waterfall: all cases from the largest loss to the largest win, which shows what a mean hides.
  function paintDifferences(shown) {
    const { names, labels, metrics, rows } = data.differences;
    return (width) => {
      const position = 2 + shown.metric;
      const { title, side, decimals } = metrics[shown.metric];
      const own = rows.filter((row) => row[1] === shown.label && row[position] !== null);
      own.sort((first, second) => first[position] - second[position]);
      const box = plot.frame(width, 300);
      const x = plot.linear([0, Math.max(own.length, 1)], [box.left, box.right]);
      const y = plot.linear(plot.padded([0, ...own.map((row) => row[position])]), [box.bottom, box.top]);
      const zero = y.at(0).toFixed(1);
      const places = own.map((row, index) => [x.at(index + 0.5), y.at(row[position])]);
      const stems = places.map(([left, top]) => `M${left.toFixed(1)} ${zero}V${top.toFixed(1)}`).join("");
      const targets = own.map((row, index) => ({
        x: places[index][0],
        y: places[index][1],
        words: `${row[0]}: ${row[position] > 0 ? "+" : ""}${row[position].toFixed(decimals)}`,
        open: () => window.report.findCase && window.report.findCase(row[0]),
      }));
      const svg = plot.canvas(width, box.height, plot.axes(box, x, y, "Cases, sorted", "Difference"));
      svg.append(draw("path", { class: "guide strong", d: `M${box.left} ${zero}H${box.right}` }));
      svg.append(draw("path", { class: "stem", d: stems }), plot.points(places, 0, colors[0]));
      return { svg, targets, words: `${title} of ${labels[shown.label]}, ${names[0]} minus ${names[1]}, in ${own.length} cases; ${side} 0 ${names[0]} is better.` };
    };
  }

  function showDifferences() {
    const { names, labels, metrics } = data.differences;
    const section = document.getElementById("differences");
    const shown = { label: 0, metric: 0 };
    const figure = plot.figure(`${names[0]} minus ${names[1]}`, paintDifferences(shown));
    const set = (name) => (value) => {
      shown[name] = Number(value);
      figure.redraw();
    };
    section.querySelector(".controls").append(
      choice("Metric", metrics.map((metric, index) => [index, metric.title]), set("metric")).field,
      choice("Label", labels.map((label, index) => [index, label]), set("label")).field,
    );
    figure.element.classList.add("wide");
    section.querySelector(".plots").append(figure.element);
  }

  function isKnown(value) {
    return value !== null && value !== undefined;
  }

  function lookOf(index) {
    return { stroke: colors[index % colors.length], "stroke-dasharray": dashes[index % dashes.length] };
  }

  // A gap stands where an epoch did not measure it; an epoch between two gaps is a dot.
  function curvePath(values, places) {
    const parts = values.map((value, index) => {
      if (!isKnown(value)) return "";
      const [left, top] = places[index];
      return `${index && isKnown(values[index - 1]) ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}h0`;
    });
    return parts.join("");
  }

  function paintCurves({ curves, range }) {
    return (width) => {
      const { epochs } = data.log;
      const box = plot.frame(width, 260);
      const x = plot.linear([epochs[0], Math.max(epochs[epochs.length - 1], epochs[0] + 1)], [box.left, box.right]);
      const y = plot.linear(range || plot.padded(curves.flatMap(([, values]) => values.filter(isKnown))), [box.bottom, box.top]);
      const svg = plot.canvas(width, box.height, plot.axes(box, x, y, "Epoch"));
      const targets = [];
      curves.forEach(([name, values], index) => {
        const places = values.map((value, epoch) => [x.at(epochs[epoch]), y.at(value)]);
        svg.append(draw("path", { class: "curve", d: curvePath(values, places), ...lookOf(index) }));
        values.forEach((value, epoch) => {
          const words = `epoch ${epochs[epoch]}, ${name}: ${isKnown(value) && Number(value.toPrecision(4))}`;
          if (isKnown(value)) targets.push({ x: places[epoch][0], y: places[epoch][1], words });
        });
      });
      const last = curves.slice(0, mostEntries).map(([name, values]) => `${name} ${Number(values.findLast(isKnown).toPrecision(3))}`);
      return { svg, targets, words: `At the end: ${last.join(", ")}.` };
    };
  }

  function curveLegend(curves) {
    const entries = curves.map(([name], index) => {
      const line = draw("path", { d: "M0 5H26", "stroke-width": 2.5, ...lookOf(index) });
      return make("li", {}, draw("svg", { class: "marker", viewBox: "0 0 26 10", "aria-hidden": "true" }, line), name);
    });
    return make("ul", { class: "legend" }, ...entries);
  }

  function showCurves(panel) {
    const curves = panel.curves.filter(([, values]) => values.some(isKnown));
    if (!curves.length) return;
    const { element } = plot.figure(panel.title, paintCurves({ ...panel, curves }));
    if (curves.length > 1 && curves.length <= mostEntries) element.append(curveLegend(curves));
    document.querySelector("#learning .plots").append(element);
  }

  if (data.differences) showDifferences();
  if (data.log) data.log.panels.forEach(showCurves);
})();
