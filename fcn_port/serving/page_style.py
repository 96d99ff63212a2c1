"""The page's own style, beside the report's, and its one script."""

from __future__ import annotations

PAGE_STYLE = """
form { display: flex; gap: .6rem; align-items: stretch; margin: 1.2rem 0 }
.drop { flex: 1; display: grid; place-items: center; gap: .2rem; text-align: center;
  padding: 1.6rem 1rem; cursor: pointer; border: 2px dashed var(--line); border-radius: .5rem;
  background: var(--track) }
.drop:hover, .drop:focus-within, .over .drop { border-color: var(--bar) }
.drop input { max-width: 100% } .script .drop input { position: absolute; opacity: 0; width: 1px; height: 1px }
.drop small { color: var(--quiet) }
button, .views label { font: inherit; color: var(--ink); background: var(--track); border: 1px solid var(--line);
  border-radius: .4rem; padding: .3rem .8rem; cursor: pointer }
.script button { display: none }
[aria-busy=true] { opacity: .55 }
.problem { border-left: .3rem solid var(--bad); padding: .4rem .8rem; background: var(--track);
  overflow-wrap: anywhere }
.seen { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 1.2rem; align-items: start }
.views { margin: 0 } .views input { position: absolute; opacity: 0 }
.views label { display: inline-block; margin: 0 .4rem .5rem 0; font-size: .85rem }
.views input:checked + label { border-color: var(--bar); box-shadow: inset 0 0 0 1px var(--bar) }
.views input:focus-visible + label { outline: 2px solid var(--bar); outline-offset: 2px }
.views img { display: none; width: 100%; height: auto; border-radius: .3rem }
.views input:nth-of-type(1):checked ~ div img:nth-of-type(1),
.views input:nth-of-type(2):checked ~ div img:nth-of-type(2),
.views input:nth-of-type(3):checked ~ div img:nth-of-type(3),
.views input:nth-of-type(4):checked ~ div img:nth-of-type(4), .views img.only { display: block }
.legend { max-height: 32rem; overflow: auto } .legend .row { grid-template-columns: 9rem 1fr 4.2rem }
.legend .key, td .key { margin-left: 0; border: 1px solid var(--quiet) }
.key.none { background: none } .best .key { display: none }
.legend.best .row { grid-template-columns: minmax(9rem, 1.4fr) 1fr 4.2rem }
.greys { display: flex; gap: .6rem; align-items: center; font-size: .85rem; font-variant-numeric: tabular-nums }
.greys i { flex: 1; height: .8rem; border: 1px solid var(--line); background: linear-gradient(90deg, #000, #fff) }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .15rem .9rem .15rem 0; white-space: pre; overflow-wrap: anywhere }
th { color: var(--quiet) }
.links a { color: var(--bar); margin-right: 1rem }
@media (max-width: 40rem) {
  .seen { grid-template-columns: minmax(0, 1fr) } form { flex-direction: column }
  .legend { max-height: none } .legend .row { grid-template-columns: 8rem 1fr 3.8rem }
}
"""

SCRIPT = """
"use strict";
const form = document.forms[0], input = form.elements.image, result = document.getElementById("result");
document.body.classList.add("script");
let turn = 0;
async function look(file) {
  const mine = ++turn;
  result.setAttribute("aria-busy", "true");
  let text;
  try {
    const answer = await fetch("/predict?format=page", { method: "POST", body: file,
      headers: { "Content-Type": "application/octet-stream" } });
    text = await answer.text();
  } catch (error) {
    text = '<div id="result"><p class="problem" role="alert">The server is gone, or took no more of it.</p></div>';
  }
  if (mine !== turn) return;
  const found = new DOMParser().parseFromString(text, "text/html").getElementById("result");
  result.replaceChildren(...(found ? found.childNodes : []));
  result.removeAttribute("aria-busy");
}
input.addEventListener("change", () => {
  if (input.files.length) look(input.files[0]);
  input.value = "";  // so that the same file, changed, can be chosen again
});
for (const name of ["dragover", "dragleave", "drop"]) addEventListener(name, (event) => {
  event.preventDefault();
  document.body.classList.toggle("over", name === "dragover");
  if (name === "drop" && event.dataTransfer.files.length) look(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => { if (event.clipboardData.files.length) look(event.clipboardData.files[0]); });
"""
