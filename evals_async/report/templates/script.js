"use strict";
// In a file, this script filters the items of the page. On the server, the form sends a request.
(() => {
  const list = document.getElementById("list");
  const form = document.getElementById("filter");
  if (!list || !form) return;
  const items = [...list.querySelectorAll("details.item")];
  const count = document.getElementById("count");
  const open = document.getElementById("open");
  const here = !form.querySelector("button:not([type])");

  if (here) {
    form.hidden = false;
    const before = count.textContent;
    const texts = new Map();
    const textOf = (item) => {
      if (!texts.has(item)) texts.set(item, item.textContent.toLowerCase());
      return texts.get(item);
    };
    const filter = () => {
      const verdict = new FormData(form).get("verdict") || "";
      const words = form.q.value.toLowerCase().trim();
      let shown = 0;
      for (const item of items) {
        const fits = (!verdict || item.dataset.verdict === verdict) && (!words || textOf(item).includes(words));
        item.hidden = !fits;
        shown += fits;
      }
      count.textContent = shown === items.length ? before : `${shown} of ${items.length} shown. ${before}`;
    };
    let waiting = 0;
    form.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(filter, 120);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  } else {
    form.addEventListener("change", (event) => event.target.type === "radio" && form.requestSubmit());
  }

  if (items.length) {
    open.hidden = false;
    open.addEventListener("click", () => {
      const opening = open.textContent === "Open all";
      for (const item of items) if (!item.hidden) item.open = opening;
      open.textContent = opening ? "Close all" : "Open all";
    });
  }

  // The keys j and k select the next and the previous item; / selects the search field.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "/") {
      event.preventDefault();
      form.q.focus();
    } else if (event.key === "j" || event.key === "k") {
      const shown = items.filter((item) => !item.hidden);
      const at = shown.findIndex((item) => item.contains(document.activeElement));
      const to = shown[event.key === "j" ? at + 1 : Math.max(0, at - 1)];
      if (to) to.querySelector("summary").focus();
    }
  });
})();
