// Batches over time, drawn by uPlot. The numbers are in the page; the table below the charts has them too.
"use strict";

(() => {
  const source = document.getElementById("chart-data");
  if (!source || !window.uPlot) return;
  const batches = JSON.parse(source.textContent);
  const stages = ["ingest", "process", "load"];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const short = (number) => {
    if (number >= 1e9) return `${+(number / 1e9).toPrecision(3)} bn`;
    if (number >= 1e6) return `${+(number / 1e6).toPrecision(3)} M`;
    return number >= 1e4 ? `${+(number / 1e3).toPrecision(3)} k` : number.toLocaleString("en");
  };
  const plain = { rows: (number) => number.toLocaleString("en"), seconds: (number) => `${number.toFixed(2)} s` };
  const axis = { rows: short, seconds: (number) => (number >= 1 ? `${+number.toPrecision(3)}` : `${+number.toPrecision(2)}`) };
  // Steps of a scale that shows ten rows beside ten million.
  const steps = [0, 0.1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];
  const charts = [];

  const draw = () => {
    while (charts.length) charts.pop().destroy();
    for (const place of document.querySelectorAll("[data-chart]")) {
      const kind = place.dataset.chart;
      const columns = stages.map((_, stage) => batches.map((batch) => batch[kind][stage]));
      const largest = Math.max(...columns.flat().filter((one) => one !== null), kind === "rows" ? 10 : 1);
      const top = steps.find((one) => one >= largest) ?? largest;
      const ticks = steps.filter((one) => one <= top && (one === 0 || one >= (kind === "rows" ? 1 : 0.1)));
      const line = { stroke: colour("line"), width: 1 };
      const readout = document.createElement("div");
      readout.className = "readout";
      place.replaceChildren();
      const chart = new uPlot(
        {
          width: place.clientWidth,
          height: place.clientHeight,
          tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
          padding: [10, 10, 0, 0],
          legend: { show: false },
          cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 } },
          scales: { x: { time: true }, y: { distr: 4, asinh: kind === "rows" ? 1 : 0.1, range: [0, top] } },
          axes: [
            { stroke: colour("quiet"), grid: { show: false }, ticks: line, font: "11px system-ui", size: 44, space: 64,
              incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000, 7776000, 31536000],
              values: [
                [86400 * 300, "{YYYY}", null, null, null, null, null, null, 1],
                [86400 * 25, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
                [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
                [3600, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
                [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
                [1, "{HH}:{mm}:{ss}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
              ] },
            { stroke: colour("quiet"), grid: line, ticks: { show: false }, font: "11px system-ui", size: 50,
              splits: () => ticks, values: (_, all) => all.map((one) => (one === null ? "" : axis[kind](one))), filter: (_, all) => all },
          ],
          series: [
            {},
            // Stages have the same rows most of the time: each later one is drawn thinner, so that all are seen.
            ...stages.map((stage, place) => ({
              label: stage,
              stroke: colour(stage),
              width: kind === "rows" ? [4, 2.25, 1][place] : 1.5,
              points: { show: batches.length < 60 && (kind === "seconds" || place === 2), size: 4, fill: colour("sheet") },
            })),
          ],
          hooks: {
            setCursor: [
              (drawn) => {
                const batch = drawn.cursor.idx === null || drawn.cursor.left < 0 ? null : batches[drawn.cursor.idx];
                readout.textContent = batch
                  ? `Batch ${batch.batch.toLocaleString("en")}   ` +
                    stages.map((stage, i) => `${stage} ${batch[kind][i] === null ? "–" : plain[kind](batch[kind][i])}`).join("   ")
                  : "";
              },
            ],
          },
        },
        [batches.map((batch) => batch.at), ...columns],
        place,
      );
      place.append(readout);
      charts.push(chart);
    }
  };

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) draw();
    width = innerWidth;
  });
})();
