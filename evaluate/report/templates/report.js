// Tables that sort and filter, and cells of a confusion matrix that list their utterances.
// Without this script every page still shows all it has. Text from data is only ever set as text.
"use strict";

const AT_A_TIME = 25;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// -- sorting --------------------------------------------------------------------------------

function compare(one, two) {
  const numbers = [one, two].map((cell) => ("value" in cell.dataset ? Number(cell.dataset.value) : NaN));
  const without = numbers.map(Number.isNaN);
  if (!without[0] && !without[1]) return numbers[0] - numbers[1];
  if (without[0] !== without[1]) return without[0] ? Infinity : -Infinity;
  return one.textContent.trim().localeCompare(two.textContent.trim(), "en", { numeric: true });
}

function sort(table, column, descending) {
  for (const body of table.tBodies) {
    const rows = [...body.rows];
    rows.sort((one, two) => {
      const order = compare(one.cells[column], two.cells[column]);
      // What has no number stands last, whichever way the table is sorted.
      return descending && Number.isFinite(order) ? -order : order;
    });
    body.append(...rows);
  }
}

function offerSorting(table) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = make("button", { type: "button", class: "sort" }, ...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table, column, descending);
    });
  });
}

// -- filtering ------------------------------------------------------------------------------

function offerFilter(table) {
  const input = make("input", { type: "search", autocomplete: "off" });
  const found = make("span", { role: "status" });
  const label = make("label", { class: "filter" }, "Rows with ", input, " ", found);
  const region = table.closest(".scroll");
  input.setAttribute("aria-label", `Rows with, ${region.getAttribute("aria-label")}`);
  region.before(label);
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    const shown = rows.filter((row) => !row.hidden).length;
    found.textContent = wanted ? `${shown} of ${rows.length}` : "";
  });
}

// -- confusion ------------------------------------------------------------------------------

function entryOf([name, link]) {
  const item = make("li", {}, make("span", {}, name));
  if (!link) {
    item.append(make("span", { class: "soft" }, "no recording here"));
    return item;
  }
  const audio = make("audio", { controls: "", preload: "none", src: link, "aria-label": name });
  audio.addEventListener("error", () => {
    audio.replaceWith(make("span", { class: "soft" }, "cannot be played here"));
  });
  item.append(audio);
  return item;
}

function list(section, title, members) {
  const heading = make("h3", { tabindex: "-1" }, title);
  const items = make("ul", { class: "utterances" });
  const more = make("button", { type: "button" });
  section.replaceChildren(heading, items, more);
  const show = () => {
    const from = items.children.length;
    items.append(...members.slice(from, from + AT_A_TIME).map((one) => entryOf(utterances[one])));
    const left = members.length - items.children.length;
    more.hidden = left === 0;
    more.textContent = `Show more (${left} left)`;
    return items.children[from];
  };
  more.addEventListener("click", () => {
    const first = show();
    first.tabIndex = -1;
    first.focus();
  });
  show();
  heading.focus();
}

function offerUtterances(table, cells) {
  const partition = table.dataset.partition;
  const section = [...document.querySelectorAll(".heard")].find((one) => one.dataset.for === partition);
  const predicted = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent.trim());
  [...table.tBodies[0].rows].forEach((row, i) => {
    const truth = row.cells[0].textContent.trim();
    [...row.cells].slice(1).forEach((cell, j) => {
      const members = cells[`${i},${j}`];
      if (!members) return;
      const title = `${members.length} of ${truth}, predicted ${predicted[j]}`;
      const button = make("button", { type: "button", "aria-label": `${title}: list them` });
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        table.querySelectorAll("[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
        button.setAttribute("aria-current", "true");
        list(section, title, members);
      });
    });
  });
  section.append(make("p", { class: "soft" }, "A cell lists its utterances."));
}

// -- the page -------------------------------------------------------------------------------

document.querySelectorAll("table.sorts").forEach(offerSorting);
document.querySelectorAll("table.filters").forEach(offerFilter);
const cells = document.getElementById("cells");
if (cells) {
  const byPartition = JSON.parse(cells.textContent);
  for (const table of document.querySelectorAll("table.confusion[data-partition]")) {
    offerUtterances(table, byPartition[table.dataset.partition]);
  }
}
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((one) => (one.open = true));
});
