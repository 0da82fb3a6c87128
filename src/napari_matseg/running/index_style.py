"""How the page of a run looks, and the few lines of JavaScript that sort and filter it."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --page: #fff; --ink: #1a1a1a; --soft: #595959; --line: #d0d0d0; --card: #f6f6f6; --link: #0b57a4; --bad: #b3261e;
  --bad-card: #fdecea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #16181b; --ink: #ececec; --soft: #a9adb3; --line: #3a3e44; --card: #212429; --link: #8ec2ff;
    --bad: #ff9b92; --bad-card: #3a2322;
  }
}
* { box-sizing: border-box }
body {
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, Arial, sans-serif; color: var(--ink); background: var(--page);
  margin: 0 auto; padding: 1rem 1.25rem 3rem; max-width: 1700px;
}
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere }
h2 { font-size: 1.05rem; margin: 1rem 0 .35rem }
h3 { font-size: .95rem; margin: 0; overflow-wrap: anywhere }
p { margin: 0 0 .4rem }
a { color: var(--link) }
a:focus-visible, button:focus-visible, input:focus-visible, select:focus-visible, summary:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px;
}
.soft { color: var(--soft) }
.bad { color: var(--bad) }
.totals { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start }
.totals > * { max-width: min(30rem, 100%); overflow-x: auto }
.totals img { background: #fff; border: 1px solid var(--line); border-radius: 6px; width: 20rem; max-width: 100% }
table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .15rem 0 .15rem 1.2rem; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr > :first-child { padding-left: 0; text-align: left; white-space: normal; overflow-wrap: anywhere }
thead th { border-bottom: 1px solid var(--line) }
table + p { font-size: .85rem; margin-top: .2rem }
form {
  background: var(--page); border-bottom: 1px solid var(--line); display: flex; flex-wrap: wrap; gap: .4rem .9rem;
  align-items: center; padding: .6rem 0; margin-top: 1rem;
}
@media (min-width: 60rem) { form { position: sticky; top: 0; z-index: 1 } }
form[hidden], li[hidden] { display: none }
form label { display: inline-flex; gap: .35rem; align-items: center }
input, select, button {
  font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 5px;
  padding: .2rem .4rem;
}
input[type="number"] { width: 5rem }
input[type="search"] { width: 10rem }
ol {
  list-style: none; margin: 1rem 0 0; padding: 0; display: grid; gap: .9rem;
  grid-template-columns: repeat(auto-fill, minmax(min(16.5rem, 100%), 1fr));
}
li {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem; display: flex;
  flex-direction: column; gap: .3rem; min-width: 0; content-visibility: auto; contain-intrinsic-size: auto 23rem;
}
li.failed {
  grid-column: 1 / -1; background: var(--bad-card); border-color: var(--bad); padding: .4rem .6rem; gap: 0;
  content-visibility: visible;
}
li.failed p { margin: 0; overflow-wrap: anywhere }
li.failed + li.failed { margin-top: -.5rem }
li .picture {
  display: flex; align-items: center; justify-content: center; height: 12.5rem; border-radius: 5px; overflow: hidden;
  background: var(--page); color: var(--soft);
}
li img { width: 100%; height: 100%; object-fit: contain }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 .7rem; margin: 0; font-size: .9rem }
dt { color: var(--soft); overflow-wrap: anywhere }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums }
.swatch {
  display: inline-block; width: .7em; height: .7em; border: 1px solid var(--line); border-radius: 2px;
  margin-right: .35em;
}
.links { font-size: .85rem; margin-top: auto; display: flex; flex-wrap: wrap; gap: 0 .8rem }
"""

SCRIPT = """
(() => {
  "use strict";
  const form = document.getElementById("controls");
  const list = document.getElementById("images");
  const shown = document.getElementById("shown");
  const cards = Array.from(list.children, (element, place) => ({
    element, place,
    failed: element.dataset.state === "failed",
    name: element.querySelector("h3").textContent,
    values: element.dataset.values.split(";").map(text => text === "" ? NaN : Number(text)),
  }));
  const names = new Intl.Collator(undefined, {numeric: true, sensitivity: "base"});
  const limit = (field, otherwise) => field.value.trim() === "" ? otherwise : Number(field.value);

  function update() {
    const {name, state, sort, down, which, low, high} = form.elements;
    const wanted = name.value.trim().toLowerCase();
    const from = limit(low, -Infinity), to = limit(high, Infinity);
    const ranged = from > -Infinity || to < Infinity;
    let count = 0;
    for (const card of cards) {
      const value = card.values[which.value];
      const visible = card.name.toLowerCase().includes(wanted)
        && (state.value === "" || card.element.dataset.state === state.value)
        && (!ranged || (value >= from && value <= to));
      card.element.hidden = !visible;
      count += visible;
    }
    const sign = down.checked ? -1 : 1;
    const compare = (a, b) => {
      if (a.failed !== b.failed) return a.failed ? -1 : 1;
      if (sort.value === "run") return sign * (a.place - b.place);
      if (sort.value === "name" || a.failed) return sign * names.compare(a.name, b.name) || a.place - b.place;
      const one = a.values[sort.value], other = b.values[sort.value];
      // What is not known comes last, whichever way it is sorted.
      if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other) || a.place - b.place;
      return sign * (one - other) || a.place - b.place;
    };
    list.append(...cards.sort(compare).map(card => card.element));
    shown.textContent = `${count} of ${cards.length} shown`;
  }

  form.addEventListener("input", update);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  form.hidden = false;
  update();
})();
"""
