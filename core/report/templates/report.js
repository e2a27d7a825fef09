const search = document.getElementById("search");
const which = document.getElementById("which");
const all = [...document.querySelectorAll("article.mistake")].map((article) => ({
  article,
  text: article.textContent.toLowerCase(),
}));

function show() {
  const wanted = search.value.toLowerCase();
  let shown = 0;
  for (const { article, text } of all) {
    article.hidden = !text.includes(wanted) || (which.value && which.value !== article.dataset.kind);
    shown += !article.hidden;
  }
  document.getElementById("count").textContent = `${shown} of ${all.length}`;
}

if (search) {
  search.addEventListener("input", show);
  which.addEventListener("change", show);
  show();
}

// Sortable tables: a click on a column's name sorts by it, a second one the other way; empty cells stay last.
const shown = (row, column) => row.cells[column].firstChild?.textContent ?? "";

function compare(a, b, isNumber) {
  if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);
  return isNumber ? parseFloat(a) - parseFloat(b) : a.localeCompare(b);
}

function sort(table, head, column) {
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const isNumber = head.classList.contains("n");
  const rows = [...table.tBodies[0].rows].map((row) => [shown(row, column), row]);
  rows.sort(([a], [b]) => {
    const found = compare(a, b, isNumber);
    return down && a && b ? -found : found;
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function filter(table, input, output) {
  const wanted = input.value.toLowerCase();
  const rows = [...table.tBodies[0].rows];
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  output.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
}

for (const box of document.querySelectorAll(".sortable")) {
  const table = box.querySelector("table");
  [...table.tHead.rows[0].cells].forEach((head, column) =>
    head.querySelector("button").addEventListener("click", () => sort(table, head, column)),
  );
  const [input, output] = ["input", "output"].map((name) => box.previousElementSibling.querySelector(name));
  input.addEventListener("input", () => filter(table, input, output));
  filter(table, input, output);
}
