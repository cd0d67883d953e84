for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], order = [...body.rows];
  const value = (row, i) => {
    const text = row.cells[i].textContent.trim(), number = parseFloat(text.replace(/^[^\d−-]*/, "").replace("−", "-"));
    return table.tHead.rows[0].cells[i].className.includes("number") ? (Number.isNaN(number) ? Infinity : number) : text;
  };
  // A part stays below its phase, and the total at the end.
  const groups = rows => rows.reduce((all, row) => (row.querySelector(".child") ? all.at(-1).push(row) : all.push([row]), all), []);
  [...table.tHead.rows[0].cells].forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const compare = (a, b) => {
      const [x, y] = [value(a, i), value(b, i)];
      return x === y ? 0 : x === Infinity ? 1 : y === Infinity ? -1 : sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
    };
    const last = row => row.className.includes("total");
    const sorted = groups(order).sort((a, b) => last(a[0]) - last(b[0]) || compare(a[0], b[0]));
    body.append(...sorted.flatMap(([first, ...parts]) => [first, ...parts.sort(compare)]));
  }));
}
