const body = document.querySelector("tbody");
const heads = [...document.querySelectorAll("th")];
const all = [...body.rows];
const search = document.getElementById("search");

function show() {
  const wanted = search.value.toLowerCase();
  let shown = 0;
  for (const row of all) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
    shown += !row.hidden;
  }
  document.getElementById("count").textContent = `${shown} of ${all.length} rows`;
}

function compare(a, b, column, isNumber) {
  const [x, y] = [a, b].map((row) => row.cells[column].textContent);
  if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
  return isNumber ? parseFloat(x) - parseFloat(y) : x.localeCompare(y);
}

function sort(head, column) {
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const isNumber = head.classList.contains("n");
  const empty = (row) => !row.cells[column].textContent;
  all.sort((a, b) => {
    const found = compare(a, b, column, isNumber);
    return down && !empty(a) && !empty(b) ? -found : found;
  });
  body.append(...all);
}

heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(head, column)));
search.addEventListener("input", show);
show();
