"use strict";
// What the other scripts of the page share: its data, and how elements, numbers and choices are made.
window.report = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const svgSpace = "http://www.w3.org/2000/svg";

  // Texts become text nodes and attributes, never markup: they come from datasets.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  function draw(tag, attributes = {}, ...children) {
    const element = document.createElementNS(svgSpace, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // A choice from a list: `options` are [value, words]; `onchange` gets the value.
  function choice(words, options, onchange) {
    const select = make("select", { onchange: () => onchange(select.value) });
    for (const [value, text] of options) select.append(make("option", { value }, text));
    return { field: make("label", {}, words, select), select };
  }

  function number(value, decimals) {
    return value === null || value === undefined ? "–" : value.toFixed(decimals);
  }

  function quantile(sorted, share) {
    const place = (sorted.length - 1) * share;
    const lower = Math.floor(place);
    const upper = Math.ceil(place);
    return sorted[lower] + (sorted[upper] - sorted[lower]) * (place - lower);
  }

  function mean(values) {
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  }

  const scores = data.scores;
  // Where in a row of `scores.rows` what stands; the metrics follow.
  const at = { case: 0, label: 1, prediction: 2, reference: 3, metrics: 4 };

  function hasVolumes(row) {
    return row[at.reference] !== null && row[at.prediction] !== null;
  }

  function remark(row) {
    // Tables of other programs may not say how large structures are.
    if (!hasVolumes(row)) return "";
    if (row[at.reference] > 0) return row[at.prediction] > 0 ? "" : "missed";
    return row[at.prediction] > 0 ? "invented" : "undefined";
  }

  // A list of the page's parts, where there are so many that one would scroll for them.
  function listParts() {
    const headings = [...document.querySelectorAll("section > h2")];
    if (headings.length < 4) return;
    const links = headings.map((heading, index) => {
      heading.parentElement.id ||= `part-${index}`;
      return make("a", { href: `#${heading.parentElement.id}` }, heading.textContent);
    });
    document.querySelector("header").append(make("nav", { class: "parts", "aria-label": "Parts of the page" }, ...links));
  }

  for (const section of document.querySelectorAll(".scripted")) section.classList.remove("scripted");
  listParts();
  return { data, scores, at, make, draw, choice, number, quantile, mean, hasVolumes, remark };
})();
