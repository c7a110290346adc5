"use strict";
// A read-out under the pointer of each chart over time: the second, and what was measured in it.
(() => {
  const readout = document.getElementById("readout");
  const units = new Set(["p50", "p95", "p99", "max"]);
  const text = (name, value) =>
    !units.has(name) ? value.toLocaleString("en") : value >= 1000 ? (value / 1000).toFixed(2) + " s"
      : (value < 100 ? value.toFixed(1) : value.toFixed(0)) + " ms";

  for (const chart of document.querySelectorAll("svg.time-chart")) {
    const data = JSON.parse(chart.dataset.chart);
    const cursor = chart.querySelector(".cursor");
    const bySecond = new Map(data.rows.map((row) => [Math.floor(row[0]), row]));
    const hide = () => { readout.hidden = true; cursor.style.opacity = 0; };

    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width - data.left) / (data.right - data.left);
      const second = Math.floor(data.low + at * (data.high - data.low));
      const row = bySecond.get(second);
      if (at < 0 || at > 1 || !row) return hide();
      const x = (data.left + ((row[0] + 0.5 - data.low) / (data.high - data.low)) * (data.right - data.left))
        * chart.viewBox.baseVal.width;
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.style.opacity = 1;
      readout.replaceChildren();
      const head = document.createElement("b");
      head.textContent = second + " s";
      readout.append(head);
      data.columns.forEach((name, i) => {
        const value = row[i + 1];
        if (value === undefined || value === null || (name === "failed" && !value)) return;
        const line = document.createElement("span");
        const label = document.createElement("i");
        label.textContent = name;
        line.append(label, text(name, value));
        readout.append(line);
      });
      readout.hidden = false;
      const left = event.clientX + 16 + readout.offsetWidth > window.innerWidth
        ? event.clientX - 16 - readout.offsetWidth : event.clientX + 16;
      readout.style.left = left + "px";
      readout.style.top = event.clientY + 12 + "px";
    });
  }
})();
