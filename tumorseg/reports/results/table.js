"use strict";
// The table of cases: sorted by a click on a heading, filtered, a page of rows at a time.
(() => {
  const { data, scores, at, make, choice, number, remark } = window.report;
  if (!scores || !scores.rows.length) return;
  const pageSize = 50;
  const mostPrinted = 1000; // rows; a longer print helps nobody
  const section = document.getElementById("cases");
  const table = section.querySelector("table");
  const body = table.querySelector("tbody");
  const pages = section.querySelector(".pages");
  const viewable = new Map(data.viewer.map((found, index) => [found.case, index]));
  const lowerCases = scores.cases.map((name) => name.toLowerCase());

  const columns = [
    { title: "Case", isText: true, value: (row) => scores.cases[row[at.case]] },
    { title: "Label", isText: true, value: (row) => scores.labels[row[at.label]].name },
    ...scores.metrics.map((metric, index) => ({ title: metric.title, metric, value: (row) => row[at.metrics + index] })),
    { title: "Reference (ml)", value: (row) => row[at.reference] },
    { title: "Prediction (ml)", value: (row) => row[at.prediction] },
    { title: "Remark", isText: true, isRemark: true, value: remark },
    ...scores.columns.map((column) => ({ title: column.name, isText: true, value: (row) => column.values[row[at.case]] })),
  ];
  const state = { sorted: null, falls: false, page: 0, text: "", label: "", remark: "", bound: null, metric: 0, below: true };
  let shown = scores.rows;

  function compare(first, second, isText) {
    if (isText) return first.localeCompare(second, undefined, { numeric: true });
    return first - second;
  }

  function isMissing(value) {
    return value === null || value === undefined;
  }

  function sortRows(rows) {
    if (state.sorted === null) return rows;
    const { value, isText } = columns[state.sorted];
    const keyed = rows.map((row) => [value(row), row]);
    const sign = state.falls ? -1 : 1;
    // What has no value stands last whichever way the table is sorted.
    keyed.sort(([first], [second]) => {
      if (isMissing(first) || isMissing(second)) return isMissing(first) - isMissing(second);
      return sign * compare(first, second, isText);
    });
    return keyed.map(([, row]) => row);
  }

  function isKept(row) {
    if (state.label !== "" && row[at.label] !== Number(state.label)) return false;
    if (state.remark !== "" && remark(row) !== state.remark) return false;
    if (state.bound !== null) {
      const value = row[at.metrics + state.metric];
      if (value === null || (state.below ? value > state.bound : value < state.bound)) return false;
    }
    if (!state.text) return true;
    const own = scores.columns.some((column) => (column.values[row[at.case]] || "").toLowerCase().includes(state.text));
    return own || lowerCases[row[at.case]].includes(state.text);
  }

  function caseCell(row) {
    const name = scores.cases[row[at.case]];
    if (!viewable.has(name)) return make("th", { scope: "row" }, name);
    const open = () => window.report.openCase(viewable.get(name));
    return make("th", { scope: "row" }, make("button", { type: "button", class: "link", title: "Open in the viewer", onclick: open }, name));
  }

  function cell(column, row) {
    const value = column.value(row);
    if (column.isRemark) return make("td", { class: "text" }, value ? make("span", { class: `tag ${value}` }, value) : "");
    if (column.isText) return make("td", { class: "text" }, value || "");
    const found = make("td", {}, number(value, column.metric ? column.metric.decimals : 2));
    if (column.metric && column.metric.share && !isMissing(value)) {
      found.className = "share";
      found.style.setProperty("--share", `${100 * value}%`);
    }
    return found;
  }

  function rowOf(row) {
    return make("tr", {}, caseCell(row), ...columns.slice(1).map((column) => cell(column, row)));
  }

  function showRows(first, last) {
    body.replaceChildren(...shown.slice(first, last).map(rowOf));
  }

  function showPage(page) {
    const last = Math.max(Math.ceil(shown.length / pageSize) - 1, 0);
    state.page = Math.min(Math.max(page, 0), last);
    showRows(state.page * pageSize, (state.page + 1) * pageSize);
    back.disabled = state.page === 0;
    forward.disabled = state.page === last;
    const from = shown.length ? state.page * pageSize + 1 : 0;
    const to = Math.min((state.page + 1) * pageSize, shown.length);
    const all = shown.length === scores.rows.length ? "" : `, filtered from ${scores.rows.length}`;
    status.textContent = `${from} to ${to} of ${shown.length} scores${all}`;
  }

  function update() {
    shown = sortRows(scores.rows.filter(isKept));
    showPage(0);
  }

  function sortBy(index) {
    state.falls = state.sorted === index && !state.falls;
    state.sorted = index;
    for (const [other, heading] of headings.entries()) {
      if (other === index) heading.setAttribute("aria-sort", state.falls ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
    update();
  }

  function filterBy(name) {
    return (value) => {
      state[name] = value;
      update();
    };
  }

  const headings = columns.map((column, index) => {
    const button = make("button", { type: "button", class: "sort", onclick: () => sortBy(index) }, column.title);
    return make("th", { scope: "col", class: column.isText ? "text" : "" }, button);
  });
  const back = make("button", { type: "button", onclick: () => showPage(state.page - 1) }, "Previous");
  const forward = make("button", { type: "button", onclick: () => showPage(state.page + 1) }, "Next");
  const status = make("span", { role: "status" });

  function textField() {
    const field = make("input", { type: "search", placeholder: scores.columns.length ? "case or attribute" : "case" });
    field.addEventListener("input", () => filterBy("text")(field.value.trim().toLowerCase()));
    return { field, label: make("label", {}, "Find", field) };
  }

  function boundField() {
    const metric = choice("Metric", scores.metrics.map((found, index) => [index, found.title]), (value) => filterBy("metric")(Number(value)));
    const way = choice("is", [["below", "at most"], ["above", "at least"]], (value) => filterBy("below")(value === "below"));
    const input = make("input", { type: "number", step: "any", "aria-label": "Bound of the metric" });
    input.addEventListener("input", () => filterBy("bound")(input.value === "" ? null : Number(input.value)));
    return make("span", { class: "group" }, metric.field, way.field, input);
  }

  const find = textField();
  const labels = scores.labels.map((label, index) => [index, label.name]);
  const remarks = ["missed", "invented", "undefined"].map((name) => [name, name]);
  section.querySelector(".controls").append(
    find.label,
    choice("Label", [["", "all"], ...labels], filterBy("label")).field,
    choice("Remark", [["", "any"], ...remarks], filterBy("remark")).field,
    boundField(),
  );
  table.querySelector("thead tr").replaceChildren(...headings);
  pages.append(back, status, forward);
  window.addEventListener("beforeprint", () => {
    showRows(0, mostPrinted);
    section.querySelector(".printed").textContent = shown.length > mostPrinted ? `The first ${mostPrinted} of ${shown.length} scores.` : "";
  });
  window.addEventListener("afterprint", () => showPage(state.page));

  // From a point of a plot to its rows.
  window.report.findCase = (name) => {
    find.field.value = name;
    filterBy("text")(name.toLowerCase());
    section.scrollIntoView();
    find.field.focus({ preventScroll: true });
  };
  update();
})();
