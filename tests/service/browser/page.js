// page.js PAGE [URL]: what the status page shows, in Chromium. Every check is a line; the first difference ends with 1.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [pagePath, live] = process.argv.slice(2);
const pictures = process.env.AKIDA_SCREENSHOTS;
const ok = (what) => console.log("ok    " + what);

// What the service would say after `steps` answers: two seconds of its clock between two of them.
const HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
function status(step) {
  const t = 7200 + 2 * step;
  const board = (name, kind, more) => ({ name, kind, simulated: true, state: "healthy", reason: "", model: "mnist_cnn/2",
    requests: 1000 + 100 * step, samples: 20000 + 3000 * step, busy_seconds: 60 + 1.5 * step, programmed: 3, resets: 0,
    dma_bytes: 5e6 + 4e6 * step, temperature_celsius: null, power_watts: null, ...more });
  const model = (name, version, more) => ({ name, version, state: "READY", reason: "", boards: ["sim:akida2#0", "sim:akida2#1"],
    queued: 96, queue_limit: 1024, requests: 2000 + 200 * step, failures: 1, refused: 0, samples: 40000 + 6000 * step,
    executions: 900 + 120 * step, queue_seconds: 4 + 0.4 * step, total_seconds: 9 + 1.0 * step, ...more });
  return { version: "0.1.0", uptime_seconds: t, live: true, ready: true, state: "serving",
    boards: [board("sim:akida2#0", "akida2"), board("sim:akida2#1", "akida2"),
      board("0000:03:00.0", "akd1000", { simulated: false, model: "kws/1", samples: 500, requests: 500, busy_seconds: 3, dma_bytes: 1e6, temperature_celsius: 41.5 }),
      board("sim:akd1500", "akd1500", { state: "quarantined", reason: HOSTILE, model: "", resets: 3, samples: 0, busy_seconds: 0 })],
    models: [model("mnist_cnn", 2), model("kws", 1, { boards: ["0000:03:00.0"], queued: 0, requests: 500, samples: 500, executions: 500, queue_seconds: 1, total_seconds: 2 }),
      model("broken", 3, { state: "UNAVAILABLE", reason: "layer conv_7 needs 70 NPs, the mesh has 68", boards: [], queued: 0, queue_limit: 0, requests: 0, samples: 0, executions: 0, queue_seconds: 0, total_seconds: 0 })],
    errors: [{ unix_ms: Date.UTC(2026, 10, 28, 12, 30, 1), about: "sim:akd1500", message: HOSTILE, request: "7f3a" }] };
}

(async () => {
  let step = 0, mode = "answers";
  const server = http.createServer((request, response) => {
    if (request.url === "/status/") {
      response.setHeader("content-type", "text/html; charset=utf-8");
      return response.end(fs.readFileSync(pagePath));
    }
    if (request.url === "/status/status.json") {
      if (mode === "refuses") { response.statusCode = 503; return response.end("draining"); }
      if (mode === "breaks") return request.socket.destroy();
      const now = status(step++);
      if (mode === "restarted") { now.uptime_seconds = 1; now.boards.forEach((b) => { b.samples = 0; b.requests = 0; }); now.models.forEach((m) => { m.samples = 0; m.requests = 0; }); }
      if (mode === "draining") { now.state = "draining"; now.ready = false; }
      if (mode === "empty") { now.boards = []; now.models = []; now.errors = []; }
      response.setHeader("content-type", "application/json");
      return response.end(JSON.stringify(now));
    }
    response.statusCode = 404;
    response.end();
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const origin = `http://127.0.0.1:${server.address().port}`;

  // Nothing but this machine can be reached: a page that needs more fails here.
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"] });
  const asked = [], complaints = [];
  const open = async (url, colorScheme) => {
    const context = await browser.newContext({ colorScheme, viewport: { width: 1280, height: 900 } });
    const page = await context.newPage();
    // The clock is ours: two seconds pass when the test says so.
    if (!url.startsWith("LIVE")) await page.clock.install({ time: new Date(Date.UTC(2026, 10, 28, 12, 30, 5)) });
    page.on("request", (r) => asked.push(r.url()));
    page.on("console", (m) => { if (m.type() === "error") complaints.push(m.text()); });
    page.on("pageerror", (e) => complaints.push(String(e)));
    await page.goto(url.replace("LIVE", ""));
    return page;
  };
  const answer = (page) => page.waitForResponse((r) => r.url().endsWith("status.json"));
  const tick = async (page) => { const next = answer(page); await page.clock.runFor(2000); await next; };
  const cell = async (page, table, row, column) => {
    const heads = await page.locator(`#${table} thead th`).allTextContents();
    assert(heads.includes(column), `${table} has no column ${column}: ${heads}`);
    return page.locator(`#${table} tbody tr`).filter({ has: page.locator("th", { hasText: row }) }).locator("th, td").nth(heads.indexOf(column)).textContent();
  };
  const until = (page, id, text) => page.waitForFunction(([id, text]) => document.getElementById(id).textContent.includes(text), [id, text], { polling: 50, timeout: 20000 });

  const page = await open(origin + "/status/", "light");
  await until(page, "state", "serving");
  assert.equal(await page.textContent("#r-samples"), "–");
  ok("one answer: state, no rates yet");
  for (let i = 0; i < 5; i++) await tick(page);
  await until(page, "r-samples", "3,000");
  const table = [["boards", "sim:akida2#0", "Samples/s", "1,500"], ["boards", "sim:akida2#0", "Busy", "75 %"], ["boards", "sim:akida2#0", "DMA/s", "2.0 MB"],
    ["boards", "sim:akida2#0", "Temperature", "–"], ["boards", "0000:03:00.0", "Temperature", "41.5 °C"], ["boards", "0000:03:00.0", "Busy", "0 %"],
    ["boards", "sim:akida2#0", "State", "● healthy"], ["boards", "sim:akd1500", "Resets", "3"],
    ["models", "mnist_cnn / 2", "Requests/s", "100"], ["models", "mnist_cnn / 2", "Samples/s", "3,000"], ["models", "mnist_cnn / 2", "Batch", "50.0"],
    ["models", "mnist_cnn / 2", "Waiting", "2.00 ms"], ["models", "mnist_cnn / 2", "Whole", "5.00 ms"], ["models", "mnist_cnn / 2", "Queue", " 96 of 1,024"],
    ["models", "kws / 1", "Waiting", "–"], ["models", "broken / 3", "State", "■ UNAVAILABLElayer conv_7 needs 70 NPs, the mesh has 68"],
    ["errors", "2026-11-28 12:30:01 UTC", "About", "sim:akd1500"]];
  for (const [t, row, column, expected] of table) assert.equal(await cell(page, t, row, column), expected, `${t}, ${row}, ${column}`);
  assert.equal(await page.textContent("#r-requests"), "100");
  assert.equal(await page.textContent("#r-latency"), "5.00 ms");
  assert.equal(await page.textContent("#r-queued"), "96");
  ok(`rates of two answers, ${table.length} cells`);
  assert((await cell(page, "boards", "0000:03:00.0", "Board")) === "0000:03:00.0");
  assert((await cell(page, "boards", "sim:akida2#0", "Board")).endsWith("(simulated)"));
  ok("a simulated board is called so, another is not");
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator("main img, main script").count(), 0);
  assert((await cell(page, "errors", "12:30:01", "What")) === HOSTILE);
  ok("markup in names and messages is text");
  for (const line of await page.locator("tbody tr").all()) assert.equal(await line.locator("th[scope=row]").count(), 1);
  assert.equal(await page.locator("table[aria-labelledby]").count(), 3);
  assert.equal(await page.locator("[role=status]").count(), 1);
  ok("tables have headings and names for readers of the screen");
  for (const [width, height] of [[360, 740], [1280, 900]]) {
    await page.setViewportSize({ width, height });
    // Wide tables scroll in themselves on a telephone, and need not on a desk.
    if (width > 1000) for (const e of await page.locator('.wide').all()) assert(await e.evaluate((e) => e.scrollWidth <= e.clientWidth), 'a table scrolls');
    assert(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `wider than ${width}`);
  }
  ok("fits 360 and 1280 pixels");
  // Contrast of every text with its ground, after WCAG: 4.5 at least, in both schemes.
  const contrast = () => page.evaluate(() => {
    const rgb = (c) => c.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
    const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
    let least = 21;
    for (const e of document.querySelectorAll("body *")) {
      if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length || ["SCRIPT", "STYLE"].includes(e.tagName)) continue;
      const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
      least = Math.min(least, (a + 0.05) / (b + 0.05));
    }
    return least;
  });
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const least = await contrast();
    assert(least >= 4.5, `${colorScheme}: contrast ${least}`);
    ok(`${colorScheme}: contrast of text at least ${least.toFixed(1)}`);
    if (pictures && !live) await page.screenshot({ path: path.join(pictures, `status-${colorScheme}.png`), fullPage: true });
  }
  mode = "restarted";
  await tick(page);
  await until(page, "r-samples", "–");
  ok("a restart gives no negative rates");
  mode = "draining";
  await tick(page);
  await until(page, "state", "▲ draining (not ready)");
  ok("draining is told");
  mode = "empty";
  await tick(page);
  await until(page, "models", "The repository holds no model.");
  ok("nothing to show is said in words");
  const before = complaints.length;
  for (const [m, text] of [["refuses", "503"], ["breaks", "No answer"]]) {
    mode = m;
    await page.clock.runFor(2000);
    await until(page, "trouble", text);
    assert(await page.isVisible("#trouble"));
  }
  mode = "answers";
  await tick(page);
  await until(page, "state", "serving");
  complaints.splice(before); // the browser tells of failed requests, as it should, sometimes a moment later
  assert(!(await page.isVisible("#trouble")));
  ok("silence is told, and its end");

  if (live) {
    const real = await open("LIVE" + live, "light");
    await until(real, "state", "serving");
    await answer(real);
    await answer(real);
    const reported = JSON.parse(await real.evaluate(async () => await (await fetch("status.json")).text()));
    const shown = await real.locator("#boards tbody th").allTextContents();
    assert.deepEqual(shown, reported.boards.map((b) => b.name + (b.simulated ? " (simulated)" : "")));
    assert(shown.length > 0);
    assert.deepEqual(await real.locator("#models tbody th").allTextContents(), reported.models.map((m) => `${m.name} / ${m.version}`));
    ok(`the running service: ${shown.length} boards, ${reported.models.length} models, ${await real.textContent("#r-samples")} samples a second`);
    if (pictures) for (const colorScheme of ["light", "dark"]) {
      await real.emulateMedia({ colorScheme });
      await real.screenshot({ path: path.join(pictures, `status-${colorScheme}.png`), fullPage: true });
    }
  }
  const allowed = [origin, live && new URL(live).origin].filter(Boolean);
  assert.deepEqual(asked.filter((u) => !allowed.includes(new URL(u).origin) && !u.startsWith("data:")), []);
  ok(`${asked.length} requests, all to the service itself`);
  assert.deepEqual(complaints, []);
  ok("no complaint on the browser's console");
  await browser.close();
  server.close();
})().catch((e) => { console.log("FAIL  " + (e.stack || e)); process.exit(1); });
