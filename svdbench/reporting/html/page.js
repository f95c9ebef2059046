// Tables that sort, filter and turn pages, drawn from the JSON beside them. No library.
"use strict";

const PAGE = 25;
const COLLATOR = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const UNITS = {
  s: [[1, " s"], [1e-3, " ms"], [1e-6, " µs"], [1e-9, " ns"]],
  bytes: [[1e12, " TB"], [1e9, " GB"], [1e6, " MB"], [1e3, " kB"], [1, " B"]],
};
// What may stand behind a number in the filter.
const SCALES = { s: 1, ms: 1e-3, "µs": 1e-6, us: 1e-6, ns: 1e-9, "%": 0.01, kb: 1e3, mb: 1e6, gb: 1e9, k: 1e3, m: 1e6 };

function digits(x, count = 3) {
  const text = x.toPrecision(count);
  return text.includes("e") ? String(Number(text)) : text;
}

// As svdbench.reporting.words writes it.
function minus(text) {
  return text.replaceAll("-", "−");
}

function shown(value, kind) {
  if (value === null) return "";
  if (typeof value === "string") return value;
  if (kind === "plain") return String(value);
  if (kind === "int") return minus(value.toLocaleString("en"));
  if (kind === "share") return minus(`${value ? digits(100 * value) : 0}%`);
  if (kind === "ratio") return minus(`${digits(value)}×`);
  if (UNITS[kind]) {
    if (value === 0) return kind === "s" ? "0\u00a0s" : "0\u00a0B";
    const size = Math.abs(value);
    const [unit, name] = UNITS[kind].find(([u]) => size >= u) || UNITS[kind].at(-1);
    const scaled = value / unit;
    return minus((Number.isInteger(scaled) ? String(scaled) : digits(scaled)) + name.replace(" ", "\u00a0"));
  }
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return minus(value.toLocaleString("en"));
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return minus(value.toExponential(2).replace("+", ""));
  return minus(String(value).length < 6 ? String(value) : digits(value, 4));
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

class Table {
  constructor(section) {
    this.data = JSON.parse(document.getElementById(section.dataset.table).textContent);
    this.columns = this.data.columns;
    this.count = this.columns.length ? (this.columns[0].codes || this.columns[0].values).length : 0;
    this.rows = Uint32Array.from({ length: this.count }, (_, i) => i);
    this.sorted = { column: null, down: false };
    this.page = 0;
    this.chosen = new Map();
    this.size = PAGE;
    if (this.count) this.build(section);
  }

  value(column, row) {
    return column.codes ? column.dict[column.codes[row]] : column.values[row];
  }

  style(column) {
    if (column.name === "cell") return "cell";
    return column.kind === "text" ? "" : "right";
  }

  build(section) {
    const tools = element("div", { className: "tools" });
    if (this.count > 1) tools.append(this.filterBox(), ...this.facets());
    this.head = element("tr");
    this.columns.forEach((column, i) => {
      const button = element("button", { type: "button", textContent: column.name, title: column.means || "sort" });
      button.addEventListener("click", () => this.sort(i));
      this.head.append(element("th", { scope: "col", className: this.style(column) }, button));
    });
    this.body = element("tbody");
    const table = element("table", {}, element("thead", {}, this.head), this.body);
    const many = this.columns.length > 16 ? "frame many" : "frame";
    const frame = element("div", { className: many, tabIndex: 0 }, table);
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", `${this.data.name}.csv`);
    section.append(tools, frame, this.pager());
    this.draw();
  }

  filterBox() {
    this.hint = element("span", { className: "hint" });
    this.hint.setAttribute("role", "alert");
    this.input = element("input", { type: "search", placeholder: this.example(), autocomplete: "off", spellcheck: false });
    let wait;
    this.input.addEventListener("input", () => {
      clearTimeout(wait);
      wait = setTimeout(() => this.filter(), 120);
    });
    return element("label", { className: "filter" }, "Filter ", this.input, this.hint);
  }

  // How a filter looks, with a column that this table has.
  example() {
    const number = this.columns.find((column) => column.kind === "s") || this.columns.find((column) => column.kind !== "text");
    if (!number) return "words, or column=value";
    return `words, or ${number.name}>${number.kind === "s" ? "1ms" : "1"}`;
  }

  // A list to choose from, for columns of few values.
  facets() {
    const few = this.columns.filter(
      (column) => column.dict && ["text", "int", "plain"].includes(column.kind) && column.dict.length > 1 && column.dict.length <= 24
        && !["reason", "cell"].includes(column.name),
    );
    return few.slice(0, 6).map((column) => {
      const select = element("select", {}, element("option", { value: "", textContent: "all" }));
      const order = column.dict.map((_, i) => i).sort((a, b) => this.compare(column.dict[a], column.dict[b]));
      for (const code of order) {
        select.append(element("option", { value: code, textContent: shown(column.dict[code], column.kind) || "–" }));
      }
      select.addEventListener("change", () => {
        if (select.value === "") this.chosen.delete(column);
        else this.chosen.set(column, Number(select.value));
        this.filter();
      });
      return element("label", {}, `${column.name} `, select);
    });
  }

  pager() {
    const button = (label, text, to) => {
      const made = element("button", { type: "button", textContent: text });
      made.setAttribute("aria-label", label);
      made.addEventListener("click", () => this.turn(to()));
      return made;
    };
    const last = () => Math.max(0, Math.ceil(this.rows.length / this.size) - 1);
    this.where = element("span");
    this.where.setAttribute("aria-live", "polite");
    this.back = [button("first page", "«", () => 0), button("previous page", "‹", () => this.page - 1)];
    this.forth = [button("next page", "›", () => this.page + 1), button("last page", "»", last)];
    this.last = last;
    const sizes = element("select", {}, ...[PAGE, 100, 500].map((n) => element("option", { value: n, textContent: `${n} rows` })));
    sizes.setAttribute("aria-label", "rows on a page");
    sizes.addEventListener("change", () => {
      this.size = Number(sizes.value);
      this.turn(0);
    });
    const bar = element("div", { className: "tools pager" }, this.where);
    if (this.count > PAGE) bar.append(...this.back, ...this.forth, sizes);
    return bar;
  }

  turn(page) {
    this.page = Math.min(Math.max(page, 0), this.last());
    this.draw();
  }

  // Numbers by size, words as people order them, what is missing at the end.
  compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === typeof b) return COLLATOR.compare(a, b);
    return typeof a === "number" ? -1 : 1;
  }

  sort(i) {
    const { column, down } = this.sorted;
    this.sorted = column !== i ? { column: i, down: false } : { column: down ? null : i, down: !down };
    this.arrange();
    this.turn(0);
  }

  arrange() {
    const { column: at, down } = this.sorted;
    [...this.head.children].forEach((th, i) => {
      if (i === at) th.setAttribute("aria-sort", down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
      th.firstChild.textContent = this.columns[i].name + (i === at ? (down ? " ▾" : " ▴") : "");
    });
    if (at === null) {
      this.rows.sort();
      return;
    }
    // Each different value is placed once; the rows are then sorted by whole numbers.
    const column = this.columns[at];
    const values = column.dict || column.values;
    const order = values.map((_, i) => i).sort((a, b) => this.compare(values[a], values[b]));
    const place = new Float64Array(values.length);
    let rank = 0;
    order.forEach((code, i) => {
      if (i && this.compare(values[order[i - 1]], values[code])) rank += 1;
      place[code] = down && values[code] !== null ? -rank : values[code] === null ? Infinity : rank;
    });
    const of = column.codes ? (row) => place[column.codes[row]] : (row) => place[row];
    // What is missing stays at the end; Infinity less Infinity is no number.
    this.rows.sort((a, b) => (of(a) === of(b) ? a - b : of(a) - of(b)));
  }

  filter() {
    const { tests, mistake } = this.tests(this.input.value);
    this.hint.textContent = mistake;
    const found = [];
    for (let row = 0; row < this.count; row += 1) {
      let holds = true;
      for (const [column, code] of this.chosen) {
        if (column.codes[row] !== code) holds = false;
      }
      if (holds && tests.every((test) => test(row))) found.push(row);
    }
    this.rows = Uint32Array.from(found);
    this.arrange();
    this.turn(0);
  }

  // What the filter says, as conditions on a row that must all hold.
  tests(text) {
    const tests = [];
    let mistake = "";
    for (const part of text.trim().split(/\s+/).filter(Boolean)) {
      const match = part.match(/^([\w.]+)(<=|>=|!=|=|<|>)(.+)$/);
      if (!match) tests.push(this.words(part.toLowerCase()));
      else {
        const column = this.columns.find((c) => c.name.toLowerCase() === match[1].toLowerCase());
        if (column) tests.push(this.condition(column, match[2], match[3]));
        else mistake = `no column ${match[1]} here`;
      }
    }
    return { tests, mistake };
  }

  words(part) {
    const matches = (value, kind) => shown(value, kind).toLowerCase().includes(part) || String(value) === part;
    const among = this.columns.filter((column) => column.dict || column.kind === "text").map((column) => {
      if (!column.dict) return (row) => matches(column.values[row], column.kind);
      const held = column.dict.map((value) => value !== null && matches(value, column.kind));
      return (row) => held[column.codes[row]];
    });
    return (row) => among.some((test) => test(row));
  }

  condition(column, sign, text) {
    let wanted = text.toLowerCase();
    if (column.kind !== "text") {
      const match = wanted.match(/^([-+.\de]*\d\.?)\s*([a-zµ%]*)$/);
      wanted = match ? Number(match[1]) * (match[2] ? SCALES[match[2]] ?? NaN : 1) : wanted;
    }
    const holds = {
      "=": (order) => order === 0, "!=": (order) => order !== 0,
      "<": (order) => order < 0, "<=": (order) => order <= 0,
      ">": (order) => order > 0, ">=": (order) => order >= 0,
    }[sign];
    return (row) => {
      const value = this.value(column, row);
      if (value === null) return sign === "!=";
      if (typeof value !== typeof wanted) return sign === "!=";
      return holds(typeof value === "number" ? value - wanted : COLLATOR.compare(value, wanted));
    };
  }

  draw() {
    const from = this.page * this.size;
    const to = Math.min(from + this.size, this.rows.length);
    const lines = [];
    for (let i = from; i < to; i += 1) {
      const line = element("tr");
      for (const column of this.columns) {
        const value = this.value(column, this.rows[i]);
        const text = shown(value, column.kind);
        const cell = element("td", { textContent: text, className: this.style(column) });
        if (column.kind === "text" && text.length > 40) cell.className = "long";
        if (typeof value === "number" && text !== String(value)) cell.title = String(value);
        line.append(cell);
      }
      lines.push(line);
    }
    this.body.replaceChildren(...lines);
    const number = (n) => n.toLocaleString("en");
    const of = this.rows.length < this.count ? ` of ${number(this.count)}` : "";
    this.where.textContent = this.rows.length
      ? `rows ${number(from + 1)}–${number(to)} of ${number(this.rows.length)}${of && ` found${of}`}`
      : `no row of ${number(this.count)} fits the filter`;
    this.back.forEach((button) => { button.disabled = this.page === 0; });
    this.forth.forEach((button) => { button.disabled = this.page >= this.last(); });
  }
}

for (const section of document.querySelectorAll("section[data-table]")) new Table(section);

// The list of runs: lines that have all the words.
for (const input of document.querySelectorAll("input[data-lines]")) {
  input.parentElement.hidden = false;
  const lines = [...document.getElementById(input.dataset.lines).tBodies[0].rows];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const line of lines) {
      const text = line.textContent.toLowerCase();
      line.hidden = !words.every((word) => text.includes(word));
    }
  });
}

for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
