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
