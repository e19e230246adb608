// A table in the star's diagram that is pointed at, or has the keyboard's focus, stands out with its references.
"use strict";

for (const drawing of document.querySelectorAll("[data-diagram]")) {
  const lines = [...drawing.querySelectorAll(".line")];
  const boxes = [...drawing.querySelectorAll(".box")];
  const choose = (name) => {
    drawing.classList.toggle("chosen", name !== null);
    const near = new Set([name]);
    for (const line of lines) {
      const on = line.dataset.start === name || line.dataset.target === name;
      line.classList.toggle("on", on);
      if (on) near.add(line.dataset.start).add(line.dataset.target);
    }
    for (const box of boxes) box.classList.toggle("on", near.has(box.dataset.table));
  };
  for (const box of boxes) {
    box.addEventListener("pointerenter", () => choose(box.dataset.table));
    box.addEventListener("pointerleave", () => choose(null));
    box.addEventListener("focus", () => choose(box.dataset.table));
    box.addEventListener("blur", () => choose(null));
  }
}
