"use strict";
const charts = JSON.parse(document.getElementById("charts").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)"), print = matchMedia("print");
const opposite = { light: ["#2f6db3", "#f7f7f5", "#c4502c"], dark: ["#6ea8ec", "#232b34", "#ee8258"] };
const warm = { light: ["#fdf3ec", "#efa680", "#b8441d"], dark: ["#26303a", "#a9583a", "#ffb08c"] };

// A colour of the style sheet by name, "@real" or "@real/0.2"; colour scales are "@warm" and "@diverging".
function colour(name) {
  const theme = dark.matches && !print.matches ? "dark" : "light";
  const scale = { "@warm": warm, "@diverging": opposite }[name];
  if (scale) return scale[theme].map((each, i) => [i / 2, each]);
  const [key, share] = name.slice(1).split("/");
  const hex = getComputedStyle(document.documentElement).getPropertyValue("--" + key).trim();
  if (!share) return hex;
  return `rgba(${[1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)).join(",")},${share})`;
}
function coloured(value) {
  if (typeof value === "string") return /^@[a-z]/.test(value) ? colour(value) : value;
  if (Array.isArray(value)) return value.map(coloured);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v)]));
  return value;
}
function axis(own) {
  return { automargin: true, fixedrange: true, gridcolor: colour("@line"), zeroline: false, linecolor: colour("@line"),
    tickcolor: colour("@line"), ...own, title: { standoff: 6, font: { size: 11, color: colour("@soft") }, ...own?.title } };
}
function layout(own) {
  const text = colour("@ink");
  return { margin: { l: 34, r: 12, t: own.title?.text ? 30 : 10, b: 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", size: 11, color: text }, showlegend: false, dragmode: false,
    hovermode: "closest", bargap: 0.25, barcornerradius: 2, ...own, xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
    title: { x: 0.01, xanchor: "left", y: 0.98, yanchor: "top", font: { size: 12.5, color: text }, ...own.title } };
}
// Long names of rows go on a second line where there is little room.
const folded = name => typeof name === "string" ? name.replace(/^(.{9,}?)[ ](?=.{5})/, "$1<br>") : name;
function draw(place, chart) {
  const shown = coloured(chart);
  if (place.clientWidth < 430 && chart.layout.yaxis?.autorange) shown.data = shown.data.map(trace => ({ ...trace, y: trace.y?.map(folded) }));
  return Plotly.react(place, shown.data, layout(shown.layout), { displayModeBar: false, responsive: true });
}
const places = [...document.querySelectorAll("[data-chart]")];
async function drawAll() {
  for (const place of places) {
    await draw(place, charts[place.dataset.chart]);
    await new Promise(done => setTimeout(done));  // the page stays alive meanwhile
  }
  document.documentElement.dataset.drawn = places.length;
}

// What-if: the same patient under another treatment or intensity.
const journey = JSON.parse(document.getElementById("journey-data").textContent);
const form = document.getElementById("what-if");
function fan(bands, tint, name) {
  const weeks = bands[0].map((_, i) => i), area = (low, high) => ({ type: "scatter", mode: "lines", x: [...weeks, ...weeks.slice().reverse()],
    y: [...bands[high], ...bands[low].slice().reverse()], fill: "toself", fillcolor: tint + "/0.16", line: { width: 0 }, hoverinfo: "skip" });
  return [area(0, 4), area(1, 3), { type: "scatter", mode: "lines", x: weeks, y: bands[2], name, line: { color: tint, width: 2.5 } }];
}
const curve = (y, tint, dash, name) => ({ type: "scatter", mode: "lines", x: y.map((_, i) => i), y, name, line: { color: tint, dash, width: 1.8 } });
function chosen() {
  const treatment = form.elements.treatment.value, dose = journey.doses[form.elements.dose.value];
  return treatment === "control" || treatment === "agent" ? treatment : treatment + "_" + dose;
}
// The commonest treatment of every week, in runs: "CBT (weeks 1 to 4), Medication (5 to 12)".
function course({ shares, intensity }) {
  const most = intensity.map((_, w) => journey.treatments.reduce((a, b) => shares[b[0]][w] > shares[a[0]][w] ? b : a)[1]);
  const starts = most.map((_, w) => w).filter(w => w === 0 || most[w] !== most[w - 1]);
  return starts.map((w, i) => [most[w], w + 1, starts[i + 1] ?? most.length]).map(([what, from, to]) => `${what} (week ${from === to ? from : from + " to " + to})`).join(", ");
}
function told(name, arm) {
  const label = { agent: "The agent", control: "Control" }[name] ?? journey.treatments.find(([key]) => name.startsWith(key + "_"))[1] + " at " + Math.round(100 * name.split("_")[1]) + " %";
  const last = arm.risk[2].length - 1, two = value => value.toFixed(2), share = value => Math.round(100 * value) + " %";
  return `${label}${arm.given ? ", mostly " + course(arm.given) : ""}: risk ${two(arm.risk[2][0])} to ${two(arm.risk[2][last])} in week ${last} (middle 80 % of courses ${two(arm.risk[0][last])} to ` +
    `${two(arm.risk[4][last])}), Control ${two(journey.arms.control.risk[2][last])}; remission in ${share(arm.remission[0])} of courses, ` +
    `${two(arm.adverse[0])} adverse events a course. Trial, the truth: risk ${two(arm.true_risk[last])}, remission ${share(arm.remission[1])}.`;
}
function whatIf() {
  const name = chosen(), arm = journey.arms[name], control = journey.arms.control, truth = form.elements.truth.checked;
  form.elements.dose.disabled = name === "agent" || name === "control";
  form.elements.shown.value = form.elements.dose.disabled ? "" : Math.round(100 * journey.doses[form.elements.dose.value]) + " %";
  document.getElementById("what-if-said").textContent = told(name, arm);
  const panel = (bands, none, real, title, unit, more) => ({ layout: { title: { text: title }, height: 240, xaxis: { title: { text: "week" } }, yaxis: { title: { text: unit }, ...more } },
    data: [...fan(bands, "@synthetic", "Twin"), curve(none, "@grey", "dot", "Control in the Twin"), ...(truth ? [curve(real, "@real", "dash", "Trial, the truth")] : [])] });
  draw(document.getElementById("what-if-risk"), panel(arm.risk, control.risk[2], arm.true_risk, "risk score", "0 to 1", { range: [0, 1] }));
  journey.signals.forEach(([signal, unit], k) => draw(document.getElementById("what-if-" + k), panel(arm.signals[k], control.signals[k][2], arm.true_signals[k], signal + ", week's mean", unit)));
}
form.addEventListener("input", whatIf);
const redraw = () => { whatIf(); places.forEach(place => draw(place, charts[place.dataset.chart])); };
dark.addEventListener("change", redraw);
print.addEventListener("change", redraw);
whatIf();
const drawn = drawAll();
