"use strict";
// What the bucket holds is text from strangers. It is put into text nodes, and nowhere else: no innerHTML in here.

const PER_PAGE = 100;
const [NAME, TYPE, ITEMS, BYTES, CREATOR, CREATED, FROZEN, TAGS, PROBLEM, URI] = Array(10).keys();

const byId = (id) => document.getElementById(id);
const all = JSON.parse(byId("data").textContent).rows;

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// --- numbers and times, as the command writes them ---

function size(bytes) {
  if (bytes === null) return "";
  let unit = 0;
  while (bytes >= 1000 && unit < 5) { bytes /= 1000; unit += 1; }
  return (unit ? bytes.toFixed(1) : String(bytes)) + " " + ["B", "kB", "MB", "GB", "TB", "PB"][unit];
}
const count = (number) => (number === null ? "" : number.toLocaleString("en"));
const datasets = (number) => count(number) + (number === 1 ? " dataset" : " datasets");
const moment = (seconds) => (seconds === null ? "" : new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " "));
const day = (seconds) => moment(seconds).split(" ")[0];
const state = (row) => (row[PROBLEM] ? "problem" : row[TYPE] === "dataset" ? "frozen" : "unfinished");
const short = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

// --- the table ---

const COLUMNS = [
  { title: "Name", key: (row) => row[NAME].toLowerCase(), text: (row) => row[NAME] || "?" },
  { title: "State", key: state, text: state, look: "state" },
  { title: "Items", key: (row) => row[ITEMS], text: (row) => count(row[ITEMS]), look: "number" },
  { title: "Size", key: (row) => row[BYTES], text: (row) => size(row[BYTES]), look: "number", exact: (row) => count(row[BYTES]) + " bytes" },
  { title: "Creator", key: (row) => row[CREATOR].toLowerCase(), text: (row) => row[CREATOR], look: "some" },
  { title: "Created", key: (row) => row[CREATED], text: (row) => moment(row[CREATED]), look: "when" },
  { title: "Frozen", key: (row) => row[FROZEN], text: (row) => moment(row[FROZEN]), look: "when" },
  { title: "Tags", key: (row) => row[TAGS].join(" "), text: (row) => row[TAGS].join(" "), look: "some" },
  { title: "Problem", key: (row) => row[PROBLEM], text: (row) => row[PROBLEM], look: "wrong" },
  { title: "URI", key: (row) => row[URI], text: (row) => row[URI], look: "uri" },
].filter((column) => column.title !== "Problem" || all.some((row) => row[PROBLEM]));

const haystacks = all.map((row) => [row[NAME], row[CREATOR], ...row[TAGS], row[URI], row[PROBLEM]].join("\n").toLowerCase());
let found = [];
let sorted = { column: 0, ascending: true };
let first = 0;

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === "") return 1; // what is not known comes last, whichever way it is sorted
  if (b === null || b === "") return -1;
  return (a < b ? -1 : 1) * (sorted.ascending ? 1 : -1);
}

function search() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = byId("state").value;
  found = all.filter((row, at) =>
    (!wanted || state(row) === wanted) && words.every((word) => haystacks[at].includes(word)));
  const known = found.reduce((sum, row) => sum + (row[BYTES] || 0), 0);
  byId("found").textContent = `${count(found.length)} found, ${size(known)}`;
  sort();
  plot();
}

function sort() {
  const { key } = COLUMNS[sorted.column];
  found.sort((a, b) => compare(key(a), key(b)) || compare(a[URI], b[URI]));
  first = 0;
  show();
}

function head() {
  COLUMNS.forEach((column, at) => {
    const button = element("button", { type: "button" }, column.title);
    button.addEventListener("click", () => {
      sorted = { column: at, ascending: sorted.column === at ? !sorted.ascending : !["Items", "Size"].includes(column.title) };
      sort();
    });
    byId("head").append(element("th", { scope: "col", class: column.look || "" }, button));
  });
}

function show() {
  [...byId("head").children].forEach((cell, at) => cell.setAttribute(
    "aria-sort", at !== sorted.column ? "none" : sorted.ascending ? "ascending" : "descending"));
  byId("rows").replaceChildren(...found.slice(first, first + PER_PAGE).map((row) =>
    element("tr", {}, ...COLUMNS.map((column, at) => {
      const cell = element(at ? "td" : "th", { class: column.look || "", ...(at ? {} : { scope: "row" }) }, column.text(row));
      if (column.exact && cell.textContent) cell.title = column.exact(row);
      return cell;
    }))));
  const last = Math.floor(Math.max(0, found.length - 1) / PER_PAGE) * PER_PAGE;
  const button = (label, to, able) => {
    const made = element("button", { type: "button", ...(able ? {} : { disabled: "" }) }, label);
    made.addEventListener("click", () => { first = to; show(); byId("listing").scrollIntoView(); });
    return made;
  };
  byId("pages").replaceChildren(
    button("First", 0, first > 0), button("Back", first - PER_PAGE, first > 0),
    element("span", {}, found.length ? `${count(first + 1)} to ${count(Math.min(first + PER_PAGE, found.length))} of ${count(found.length)}` : "none"),
    button("Next", first + PER_PAGE, first < last), button("Last", last, first < last));
}

// --- the plots: each is a picture for those who see it, and a table for all ---

const WIDTH = 480, HEIGHT = 240, LEFT = 64, RIGHT = 12, TOP = 8, BOTTOM = 26;

function figure(title, said, shapes, columns, rows, height = HEIGHT) {
  if (!shapes.length) return element("figure", {}, element("h2", {}, title), element("p", {}, said));
  const table = element("table", {},
    element("thead", {}, element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text))))));
  return element("figure", {}, element("h2", {}, title),
    drawn("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": said }, ...shapes),
    element("details", {}, element("summary", {}, "As a table"), element("div", { class: "scroll" }, table)));
}

// The next round number up, so that three grid lines below it are round as well.
function ceiling(most) {
  const power = 10 ** Math.floor(Math.log10(most || 1));
  return [1, 2, 4, 8, 10].map((step) => step * power).find((step) => step >= most) || 10 * power;
}

function levels(most, label) {
  return [0, .25, .5, .75, 1].flatMap((part) => {
    const y = TOP + (1 - part) * (HEIGHT - TOP - BOTTOM);
    return [drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }),
      drawn("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, label(most * part))];
  });
}

function volumeOverTime() {
  const dated = found.map((row) => [row[FROZEN] === null ? row[CREATED] : row[FROZEN], row[BYTES] || 0])
    .filter(([time]) => time !== null).sort((a, b) => a[0] - b[0]);
  const title = "Volume over time";
  if (!dated.length) return figure(title, "No dataset with a time was found.", [], [], []);
  const [from, to] = [dated[0][0], dated[dated.length - 1][0]];
  const whole = dated.reduce((sum, [, bytes]) => sum + bytes, 0), most = ceiling(whole);
  const x = (time) => LEFT + (to > from ? (time - from) / (to - from) : 1) * (WIDTH - LEFT - RIGHT);
  const y = (bytes) => TOP + (1 - bytes / most) * (HEIGHT - TOP - BOTTOM);
  let sum = 0, edge = `M${LEFT} ${y(0)}`;
  const years = new Map();
  for (const [time, bytes] of dated) {
    sum += bytes;
    edge += `H${x(time).toFixed(1)}V${y(sum).toFixed(1)}`;
    const year = day(time).slice(0, -6);
    years.set(year, [year, count(Number((years.get(year) || [0, "0"])[1].replaceAll(",", "")) + 1), size(sum)]);
  }
  const ticks = to > from ? [0, .5, 1] : [1];
  return figure(title, `Volume over time: ${size(whole)} in ${datasets(dated.length)}, from ${day(from)} to ${day(to)}.`,
    [...levels(most, size),
      ...ticks.map((part) => drawn("text", {
        x: LEFT + part * (WIDTH - LEFT - RIGHT), y: HEIGHT - 6, "text-anchor": part === 1 ? "end" : part ? "middle" : "start",
      }, day(from + (to > from ? part : 0) * (to - from)))),
      drawn("path", { class: "area", d: `${edge}V${y(0)}Z` }), drawn("path", { class: "edge", d: edge })],
    ["Year", "Datasets frozen", "Volume at its end"], [...years.values()]);
}

function perCreator() {
  const of = new Map();
  for (const row of found) {
    const name = row[CREATOR] || "not known";
    const [number, bytes] = of.get(name) || [0, 0];
    of.set(name, [number + 1, bytes + (row[BYTES] || 0)]);
  }
  const ordered = [...of].map(([name, [number, bytes]]) => [name, number, bytes])
    .sort((a, b) => b[2] - a[2] || b[1] - a[1] || compare(a[0], b[0]));
  const shown = ordered.slice(0, ordered.length > 8 ? 7 : 8), rest = ordered.slice(shown.length);
  if (rest.length) {
    shown.push([`${count(rest.length)} others`, rest.reduce((sum, each) => sum + each[1], 0), rest.reduce((sum, each) => sum + each[2], 0)]);
  }
  const most = Math.max(1, ...shown.map((each) => each[2])), left = 130, step = 26;
  return figure("Volume per creator",
    `Volume per creator: ${shown.slice(0, 3).map(([name, , bytes]) => `${name} ${size(bytes)}`).join(", ") || "no dataset was found"}.`,
    shown.flatMap(([name, number, bytes], at) => {
      const width = bytes / most * (WIDTH - left - 80), y = at * step + 4;
      return [drawn("text", { x: left - 6, y: y + 14, "text-anchor": "end" }, short(name, 18)),
        drawn("rect", { class: "bar", x: left, y, width: Math.max(1, width), height: step - 8, rx: 2 },
          drawn("title", {}, `${name}: ${size(bytes)} in ${datasets(number)}`)),
        drawn("text", { x: left + Math.max(1, width) + 6, y: y + 14 }, size(bytes))];
    }),
    ["Creator", "Datasets", "Volume"], ordered.slice(0, 1000).map(([name, number, bytes]) => [name, count(number), size(bytes)]),
    Math.max(60, shown.length * step));
}

function sizes() {
  // Bins of a factor of ten: empty, below 1 kB, 1 to 10 kB ...
  const bin = (bytes) => (bytes ? Math.max(0, Math.floor(Math.log10(bytes)) - 2) + 1 : 0);
  const known = found.filter((row) => row[BYTES] !== null).map((row) => bin(row[BYTES]));
  const title = "Sizes of the datasets";
  if (!known.length) return figure(title, "No dataset of known size was found.", [], [], []);
  const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
  const bins = Array.from({ length: high - low + 1 }, (_, at) => ({ from: low + at, number: 0 }));
  for (const each of known) bins[each - low].number += 1;
  const edge = (at) => size(10 ** (at + 1)).replace(".0", "");
  const label = (at) => (at === 0 ? "empty" : at === 1 ? "< 1 kB" : `${edge(at)} to ${edge(at + 1)}`);
  // Beneath a bar: where it begins. Of many, only 1 kB, 1 MB, 1 GB ...; the first of them has what is below at its left.
  const few = bins.length <= 6;
  const below = (at) => (at === 0 ? few ? "empty" : "0" : at === 1 ? few ? "< 1 kB" : "" : few || at % 3 === 2 ? edge(at) : "");
  const most = ceiling(Math.max(4, ...bins.map((each) => each.number)));
  const step = (WIDTH - LEFT - RIGHT) / bins.length;
  return figure(title, `Sizes: ${bins.filter((each) => each.number).map((each) => `${datasets(each.number)} ${label(each.from)}`).join(", ")}.`,
    [...levels(most, count), ...bins.flatMap(({ from, number }, at) => {
      const tall = number / most * (HEIGHT - TOP - BOTTOM), x = LEFT + at * step;
      return [drawn("rect", { class: "bar", x: x + 1, y: HEIGHT - BOTTOM - tall, width: Math.max(1, step - 2), height: tall, rx: 2 },
        drawn("title", {}, `${label(from)}: ${datasets(number)}`)),
        drawn("text", { x: from > 1 ? x : x + step / 2, y: HEIGHT - 6, "text-anchor": "middle" }, below(from))];
    })],
    ["Size", "Datasets"], bins.map(({ from, number }) => [label(from), count(number)]));
}

function plot() {
  const open = [...document.querySelectorAll("#plots details")].map((each) => each.open);
  byId("plots").replaceChildren(volumeOverTime(), perCreator(), sizes());
  document.querySelectorAll("#plots details").forEach((each, at) => { each.open = Boolean(open[at]); });
}

// --- begin ---

let waiting = 0;
byId("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 150); });
byId("state").addEventListener("change", search);
byId("filter").addEventListener("submit", (event) => { event.preventDefault(); search(); });
head();
search();
for (const id of ["filter", "plots", "listing"]) byId(id).hidden = false;
